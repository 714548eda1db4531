"""Which jaxlib the handlers go with, and what is said where they do not or are not there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fusednn

jax = pytest.importorskip("jax")
pytest.importorskip("fusednn.jax", exc_type=ImportError)
from fusednn.jax import handlers  # noqa: E402  needs JAX


@pytest.mark.parametrize("built", [(0, 1), (0, 3), (1, 2)])
@pytest.mark.parametrize("installed", [(0, 1), (0, 3), (1, 2)])
def test_interfaces_that_go_together(built, installed):
    """As XLA decides: the same major version, and handlers not newer than jaxlib."""
    if built[0] == installed[0] and built[1] <= installed[1]:
        handlers.check_interface(built, installed)
        return
    ours, theirs = (".".join(map(str, v)) for v in (built, installed))
    with pytest.raises(ImportError, match=rf"version {ours} of .* jaxlib .* has {theirs}"):
        handlers.check_interface(built, installed)


def test_interface_of_this_jaxlib():
    major, minor = handlers.interface_of_jaxlib()
    assert (major, minor) >= (0, 1)


def test_old_jax(monkeypatch):
    monkeypatch.setattr(jax.version, "__version_info__", (0, 7, 9))
    with pytest.raises(ImportError, match=r"needs jax 0\.8 or later. Received: jax "):
        handlers.register()


def run_with_package(folder: Path, program: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); {program}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


@pytest.fixture
def package(tmp_path):
    """A copy of the package without the library of handlers."""
    source = Path(fusednn.__file__).parent
    ignored = shutil.ignore_patterns("libfusednn_xla.so", "__pycache__", "include", "cmake")
    shutil.copytree(source, tmp_path / "fusednn", ignore=ignored)
    return tmp_path


def test_without_the_library(package):
    said = run_with_package(package, "import fusednn.jax")
    assert said.startswith("ImportError: fusednn.jax needs libfusednn_xla.so in ")
    assert "FUSEDNN_JAX_INCLUDE=" in said


def test_with_a_library_that_cannot_be_loaded(package):
    (package / "fusednn/libfusednn_xla.so").write_bytes(b"nothing")
    said = run_with_package(package, "import fusednn.jax")
    assert said.startswith("ImportError: fusednn.jax could not load ")


def test_without_jax(package):
    said = run_with_package(package, "sys.modules['jax'] = None; import fusednn.jax")
    assert said.startswith("ImportError: fusednn.jax needs the package jax, which could not be ")
