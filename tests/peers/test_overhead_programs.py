"""The programs behind the tables of what a call costs run; their figures are not judged."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fusednn

OPTIMIZERS = ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")
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
        list(OPTIMIZERS),
    ),
}


def assert_printed(rows: list[str], printed: str) -> None:
    for row in rows:
        assert re.search(rf"^\| {re.escape(row)} \|( \d+(\.\d+)? \|)+$", printed, re.M), row


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
    assert_printed(rows, capsys.readouterr().out)


def test_tables_of_jax(capsys):
    """Of small arrays: to compile steps of optax for 60 takes minutes."""
    pytest.importorskip("optax")
    pytest.importorskip("fusednn.jax", exc_type=ImportError)
    program = runpy.run_path(str(BENCHMARKS / "jax_overhead.py"))
    short = {"SHAPES": ((8, 3),), "LISTS": {"2 x 4": [(4,)] * 2, "a million": [(5,)]}}
    short |= {"LOOP": 3, "SECONDS": 0, "ROUNDS": {"small": 1, "large": 1}}
    program["main"].__globals__.update(short)
    program["main"]([])
    printed = capsys.readouterr().out
    rows = [f"(8, 3), {kind}" for kind in ("forward", "forward and backward", "inference")]
    rows.append("(8, 3), backward")  # of leaky ReLU alone
    for name in ("sgd, Nesterov", "adam", "adamw, max_norm"):
        rows += [f"{name}, {of}" for of in ("2 x 4", "2 x 4, in a loop", "a million")]
    assert_printed(rows, printed)


def test_tables_of_keras():
    """In a process of its own, as Keras' backend is chosen once; it is PyTorch here."""
    pytest.importorskip("keras")
    pytest.importorskip("torch")
    short = "import runpy; m = runpy.run_path('keras_overhead.py')['main']; "
    short += "m.__globals__.update(ROUNDS=1, CALLS=1); m()"
    done = subprocess.run(
        [sys.executable, "-c", short],
        cwd=BENCHMARKS,
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = ["layer, training forward and backward", "layer, inference"]
    for name in OPTIMIZERS:
        rows += [f"{name}, 60 variables of 32, new gradients", f"{name}, gradients kept"]
    assert_printed(rows, done.stdout)
