"""The programs behind the tables of what a call costs run to their end, once each and untimed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import fusednn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: What makes each short, and the titles of the rows that it must print with figures.
PROGRAMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "torch_overhead": (
        {"ROUNDS": 1, "CALLS": 1},
        ["NumPy", "PyTorch, exchange API", "PyTorch, __dlpack__", "module, inference"]
        + [f"{of}, forward{how}" for of in ("function", "module") for how in ("", " and backward")],
    ),
    "torch_optim_overhead": (
        {"STEPS": 4, "FIRST": 2},
        ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"],
    ),
}


@pytest.fixture
def threads():
    """The programs choose one thread, here and in PyTorch."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads(), fusednn.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    fusednn.set_num_threads(before[1])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_prints_its_tables(name, capsys):
    short, rows = PROGRAMS[name]
    program = runpy.run_path(str(BENCHMARKS / f"{name}.py"))
    main = program["main"]
    main.__globals__.update(short)
    main()
    printed = capsys.readouterr().out
    for row in rows:
        assert re.search(rf"^\| {re.escape(row)} \|( \d+\.\d+ \|)+$", printed, re.MULTILINE), row
