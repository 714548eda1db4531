"""What measures the first questions on a GPU, once on the simulator: each kernel of it runs."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from simulator import library

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/gpu"))

import questions

#: Of CUDA's own: the simulator has neither.
NOT_SIMULATED = ["barrier: cooperative groups", "barrier: cluster"]


@pytest.fixture(scope="module")
def program() -> Path:
    return library("fusednn_cuda_sim").with_name("fusednn_cuda_sim_questions")


def test_every_question_has_an_answer(program):
    answers = questions.run(program, dry=True)
    assert "not run" not in answers
    assert "failed" not in answers
    assert questions.unanswered(answers) == NOT_SIMULATED
    asked = Counter(answer["question"] for answer in answers["answers"])
    assert asked == {
        "copy": 12,
        "reversed second pass, time saved": 5,
        "barrier": 3,
        "optimizer chunk": 7,
    }
    lines = questions.table(answers)
    assert [line.split("  ")[1] for line in lines if line.endswith("no answer")] == NOT_SIMULATED


def test_a_program_that_fails_or_is_not_there_is_told(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'cudaMalloc: out of memory' >&2\nexit 1\n")
    program.chmod(0o755)
    answers = questions.run(program, dry=False)
    assert answers == {"answers": [], "failed": "cudaMalloc: out of memory"}
    assert len(questions.unanswered(answers)) == len(questions.ASKED)
    assert "FileNotFoundError" in questions.run(tmp_path / "none", dry=False)["not run"]
    assert questions.run(None, dry=True) == {"not run": "no program was given (--questions)"}
