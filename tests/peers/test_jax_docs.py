"""The programs of docs/jax.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("fusednn.jax", exc_type=ImportError)
PAGE = (Path(__file__).parents[2] / "docs/jax.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NAMES = ["batch_norm", "vmap", "devices", "apply", "optax", "sharded", "export"]


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_program_runs(program: str) -> None:
    if "optax" in program:
        pytest.importorskip("optax")
    exec(compile(program, "docs/jax.md", "exec"), {"__name__": "__main__"})
