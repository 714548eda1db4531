"""The programs of docs/torch_optim.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
PAGE = (Path(__file__).parents[2] / "docs/torch_optim.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=["train", "state_dict", "ema"])
def test_program_runs(program: str) -> None:
    exec(compile(program, "docs/torch_optim.md", "exec"), {"__name__": "__main__"})
