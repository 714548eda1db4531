"""``.keras`` files that releases of Keras wrote, recorded by `peers/archives_of_keras.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "peers"))
import archives_of_keras
import keras2_files

pytest.importorskip("h5py", reason="weights in the archives are HDF5 files")
FILES = sorted(archives_of_keras.FOLDER.glob("*.keras"))


def test_there_are_files() -> None:
    assert len(FILES) >= 3 * len(archives_of_keras.NAMES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_training_goes_on(path: Path) -> None:
    with np.load(path.with_suffix(".npz")) as expected:
        keras2_files.check(path, expected)
