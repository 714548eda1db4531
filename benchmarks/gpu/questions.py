"""What `questions.cu` measures: run as a program of its own, read line by line.

Two questions are answered elsewhere: the layer of 64 x 56 x 56 kept on chip or read twice is a case
of `batch_norm.py`. The kernels themselves have no switch for the order of the second pass, for the
length of chunks or for clusters: these are measured by kernels that do nothing else.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

#: Seconds; it should take a few.
LIMIT = 40


def run(program: Path | None, dry: bool) -> dict[str, Any]:
    """Return the answers, or why there are none."""
    if dry:
        return {"not run": "a dry run: there is no GPU"}
    if program is None:
        return {"not run": "no program was given (--questions)"}
    try:
        done = subprocess.run(
            [str(program.absolute())], capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"not run": f"{type(error).__name__}: {error}"}
    answers: dict[str, Any] = {"answers": [json.loads(line) for line in done.stdout.splitlines()]}
    if done.returncode != 0:
        answers["failed"] = done.stderr.strip() or f"status {done.returncode}"
    return answers


def table(answers: dict[str, Any]) -> list[str]:
    """A line for each answer."""
    lines = ["first questions"]
    for answer in answers.get("answers", []):
        name = f"{answer['question']}: {answer['case']}"
        lines.append(f"  {name:66}{answer['value']:10.3g} {answer['unit']}")
    lines += [f"  {name}: {answers[name]}" for name in ("not run", "failed") if name in answers]
    return lines
