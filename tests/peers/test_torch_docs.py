"""The programs of docs/torch.md run, and print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
PAGE = (Path(__file__).parents[2] / "docs/torch.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OUTPUT = re.findall(r"^prints\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=["convert", "pairs", "train", "sync", "compile"])
def test_program_runs(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program, "docs/torch.md", "exec"), {"__name__": "__main__"})
    if "find_pairs" in program:
        assert capsys.readouterr().out == OUTPUT[0]
