"""The programs of docs/cupy.md and docs/cuda.md run: with CuPy on a GPU, or on what stands in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.short

DOCS = Path(__file__).parents[2] / "docs"
NAMES = {"cupy": ["layer", "loop", "graph", "memory", "model"], "cuda": ["model"]}


def programs():
    for page, names in NAMES.items():
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for name, program in zip(names, found, strict=True):
            yield pytest.param(page, program, id=f"{page}-{name}")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("page", "program"), list(programs()))
def test_program_runs(page, program):
    exec(compile(program, f"docs/{page}.md", "exec"), {"__name__": "__main__"})
