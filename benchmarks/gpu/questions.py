"""What `questions.cu` measures: run as a program of its own, read line by line.

One question is answered elsewhere, whether a layer of 64 x 56 x 56 is worth keeping on chip: that
is a case of `batch_norm.py`. The kernels themselves have no switch for the order of the second
pass, for the length of chunks or for clusters: these are measured by kernels that do nothing else.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

#: Seconds; it should take a few.
LIMIT = 40
#: What is asked, as `questions.cu` names it, and the cases that must be among the answers: a device
#: that has no clusters says nothing of them.
ASKED = (
    ("copy", ""),
    ("reversed second pass, time saved", ""),
    ("barrier", "counter"),
    ("barrier", "cooperative groups"),
    ("barrier", "cluster"),
    ("optimizer chunk", ""),
)


def run(program: Path | None, dry: bool) -> dict[str, Any]:
    """Return the answers, or why there are none; of a dry run's the numbers mean nothing."""
    if program is None:
        return {"not run": "no program was given (--questions)"}
    command = [str(program.absolute()), *(["dry"] if dry else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"not run": f"{type(error).__name__}: {error}"}
    answers: dict[str, Any] = {"answers": [json.loads(line) for line in done.stdout.splitlines()]}
    if done.returncode != 0:
        answers["failed"] = done.stderr.strip() or f"status {done.returncode}"
    return answers


def unanswered(answers: dict[str, Any]) -> list[str]:
    """Return what was asked and has no answer."""
    found = [(answer["question"], answer["case"]) for answer in answers.get("answers", [])]
    return [
        f"{question}: {case}" if case else question
        for question, case in ASKED
        if not any(q == question and c.startswith(case) for q, c in found)
    ]


def table(answers: dict[str, Any]) -> list[str]:
    """A line for each answer, and for each question without one."""
    lines = ["first questions"]
    for answer in answers.get("answers", []):
        name = f"{answer['question']}: {answer['case']}"
        lines.append(f"  {name:66}{answer['value']:10.3g} {answer['unit']}")
    lines += [f"  {name}: {answers[name]}" for name in ("not run", "failed") if name in answers]
    lines += [f"  {question:66}{'no answer':>10}" for question in unanswered(answers)]
    return lines
