"""Files that Keras 2.15 wrote, recorded by `peers/keras2_files.py`: training goes on from them."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "peers"))
import keras2_files

h5py = pytest.importorskip("h5py", reason="Keras' files are HDF5 files")


@pytest.mark.parametrize("name", keras2_files.OPTIMIZERS)
def test_training_goes_on(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.h5"
    path.write_bytes(gzip.decompress((keras2_files.FOLDER / f"{name}.h5.gz").read_bytes()))
    with h5py.File(path) as file:
        expected = {key: file["expected"][key][()] for key in file["expected"]}
    keras2_files.check(path, expected)
