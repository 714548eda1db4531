"""What MNIST and Fashion-MNIST have in common: four arrays, as IDX files or in one .npz."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.idx_file import read_idx
from fusednn.datasets.labeled_data import LabeledData
from fusednn.datasets.npz_file import npz_arrays
from fusednn.datasets.original_files import OriginalFiles, one_of

Array = NDArray[Any]
Pairs = tuple[tuple[Array, Array], tuple[Array, Array]]

_IDX = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
_NPZ = ("x_train", "y_train", "x_test", "y_test")
_FOLDERS = ("", "raw", "MNIST/raw", "FashionMNIST/raw")


def read_pairs(files: OriginalFiles, path: str | os.PathLike[str] | None) -> Pairs:
    """Return ``(x_train, y_train), (x_test, y_test)`` of a .npz file or a folder of IDX files.

    Raises
    ------
    OSError
        If there is nothing of this name.
    ValueError
        If a file is missing in the folder, or malformed, or does not hold 28 x 28 pixels and
        labels 0 ... 9.
    """
    place = files.find(path)
    if place.is_dir():
        parts = [_idx_pair(files.name, place, *names) for names in _IDX]
    elif place.suffix == ".npz":
        x_train, y_train, x_test, y_test = npz_arrays(place, _NPZ)
        parts = [(x_train, y_train), (x_test, y_test)]
    else:
        raise ValueError(
            f"{place}: must be a folder of IDX files ({_IDX[0][0]}.gz and three more), or a .npz "
            "file"
        )
    train, test = parts
    for x, y in (train, test):
        _check(str(place), x, y)
    return train, test


def labeled(files: OriginalFiles, path: str | os.PathLike[str] | None) -> LabeledData:
    """Return the pairs as `LabeledData`."""
    train, test = read_pairs(files, path)
    return LabeledData.from_arrays(files.name, train, test, pixel_max=255.0)


def _idx_pair(name: str, folder: Path, images: str, labels: str) -> tuple[Array, Array]:
    found = []
    for wanted in (images, labels):
        names = [f"{inner}/{wanted}{end}" for inner in _FOLDERS for end in ("", ".gz")]
        file = one_of(folder, [each.lstrip("/") for each in names])
        if file is None:
            raise ValueError(
                f"{folder}: must hold the files of {name}. Missing: {wanted} or {wanted}.gz"
            )
        found.append(read_idx(file))
    return found[0], found[1]


def _check(source: str, x: Array, y: Array) -> None:
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or not len(x):
        raise ValueError(
            f"{source}: images must be uint8 of shape (n, 28, 28). "
            f"Received: {x.dtype} of shape {x.shape}"
        )
    if y.dtype != np.uint8 or y.shape != x.shape[:1]:
        raise ValueError(
            f"{source}: labels must be uint8 of shape ({len(x)},), one for each image. "
            f"Received: {y.dtype} of shape {y.shape}"
        )
    if y.max() > 9:
        place = int(y.argmax())
        raise ValueError(f"{source}: labels must be 0 ... 9. Received: {y[place]} at {place}")
