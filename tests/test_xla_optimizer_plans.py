"""By what handlers for JAX know lists of an optimizer again, without JAX: all that a plan needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "g++"))


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
@pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the sources of the handlers")
def test_a_plan_is_found_by_all_that_it_depends_on(tmp_path):
    program = tmp_path / "optimizer_plans"
    includes = [f"-I{ROOT / folder}" for folder in ("csrc", "csrc/include")]
    source = ROOT / "tests/optimizer_plans.cpp"
    subprocess.run([COMPILER, "-std=c++20", "-O1", *includes, source, "-o", program], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == ["8 kept", "0 kept"]
