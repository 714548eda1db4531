"""The programs of docs/keras.md run, on the backend that has kernels and on another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("keras") is None:
    pytest.skip("Keras is not installed", allow_module_level=True)
PAGE = (Path(__file__).parents[2] / "docs/keras.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OUTPUT = re.findall(r"^prints\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_programs_run(backend: str, tmp_path: Path) -> None:
    assert len(PROGRAMS) == 3
    environment = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", "\n".join(PROGRAMS)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == OUTPUT[0]
