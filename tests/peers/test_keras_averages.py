"""Training with moving averages goes on from files, in Keras on PyTorch and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras", reason="reads and writes the files")
pytest.importorskip("torch", reason="Keras computes with it")
pytest.importorskip("h5py", reason="Keras' files are HDF5 files")


def test_averages_in_files(tmp_path: Path) -> None:
    program = Path(__file__).with_name("keras_averages.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", program, tmp_path],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == 6
