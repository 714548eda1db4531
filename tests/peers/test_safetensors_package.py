"""Files of weights, with the reader and the writer of the package safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusednn.layers import BatchNormalization, Dense, Input
from fusednn.models import Sequential

library = pytest.importorskip("safetensors.numpy", reason="the format's own package")


def test_the_formats_own_reader_and_writer(tmp_path: Path) -> None:
    ours = Sequential([Input((4,)), Dense(3, name="d"), BatchNormalization(name="n")])
    ours.save_weights(tmp_path / "w.safetensors")
    theirs = library.load_file(tmp_path / "w.safetensors")
    for variable in ours.weights:
        np.testing.assert_array_equal(theirs[variable.path], variable.value)
    library.save_file(
        {name: 2 * array for name, array in theirs.items()}, tmp_path / "t.safetensors"
    )
    expected = [2 * w for w in ours.get_weights()]
    ours.load_weights(tmp_path / "t.safetensors")
    for a, b in zip(expected, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
