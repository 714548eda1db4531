"""A simulator that was built from other sources is not taken for one of these."""

import os
from pathlib import Path

import pytest
import simulator
from freshness import ROOT, UNITS, sources, staleness

NAMES = list(UNITS)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder like CMake's, with libraries that are newer than everything."""
    (tmp_path / "CMakeCache.txt").write_text(f"CMAKE_HOME_DIRECTORY:INTERNAL={ROOT}\n")
    folder = tmp_path / "tests/cuda_sim"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / f"lib{name}.so").touch()
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_build_of_what_is_here(build, name):
    assert staleness(build / f"lib{name}.so") == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_build_that_is_older_than_a_source(build, name, monkeypatch):
    library = build / f"lib{name}.so"
    newest = max(sources(library), key=lambda path: path.stat().st_mtime)
    os.utime(library, (0, newest.stat().st_mtime - 1))
    said = f"is older than {newest.relative_to(ROOT)}: `cmake --build {build.parents[1]} --target"
    assert said in staleness(library)
    monkeypatch.setattr(simulator, "FOLDER", build)
    with pytest.raises(pytest.fail.Exception, match=r"is older than .*builds it anew"):
        simulator.library(name)


def test_a_build_of_another_folders_sources(build):
    (build.parents[1] / "CMakeCache.txt").write_text("CMAKE_HOME_DIRECTORY:INTERNAL=/elsewhere\n")
    library = build / f"lib{NAMES[0]}.so"
    assert "was built from /elsewhere, not from " in staleness(library)


def test_a_library_that_cmake_did_not_build(build):
    (build.parents[1] / "CMakeCache.txt").unlink()
    library = build / f"lib{NAMES[0]}.so"
    os.utime(library, (0, 0))
    assert staleness(library) == ""


def test_what_a_library_is_built_from():
    kernels, selftest = (
        {str(path.relative_to(ROOT)) for path in sources(Path(f"lib{name}.so"))} for name in NAMES
    )
    assert {"csrc/cuda/optimizers.cu", "csrc/math/stochastic_rounding.h"} <= kernels - selftest
    assert "tests/cuda_sim/selftest/kernels.cu" in selftest - kernels
    assert {"tests/cuda_sim/gpusim.h", "tests/cuda_sim/launch.cpp"} <= kernels & selftest
