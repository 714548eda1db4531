"""Data for training, read from files that the user has.

`load(path)` reads .npz, .csv, MNIST-style IDX files and CIFAR-10 into a `LabeledData`, `load_csv`
tables with a target by name. Each module of a known data set has Keras' ``load_data``: `mnist`,
`fashion_mnist`, `cifar10` and `california_housing` read their original files where the user has
them, nothing is downloaded; `digits`, `breast_cancer`, `wine` and `diabetes` come with
scikit-learn.

Every reader refuses a file that is malformed in any way it can see (truncated, ragged, not a
number, not finite, empty, of one class) with a `ValueError` that names the file, the place in it
and what is wrong. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
from pathlib import Path

from fusednn.datasets import (
    breast_cancer,
    california_housing,
    cifar10,
    diabetes,
    digits,
    fashion_mnist,
    mnist,
    wine,
)
from fusednn.datasets.cifar10 import is_cifar10
from fusednn.datasets.csv_file import read_csv
from fusednn.datasets.csv_table import load_csv
from fusednn.datasets.idx_file import is_idx, read_idx, read_idx_pair
from fusednn.datasets.labeled_data import LabeledData
from fusednn.datasets.npz_file import read_npz
from fusednn.datasets.random_split import random_split
from fusednn.datasets.scaling import scale_features
from fusednn.datasets.split import stratified_split

__all__ = [
    "LabeledData",
    "breast_cancer",
    "california_housing",
    "cifar10",
    "diabetes",
    "digits",
    "fashion_mnist",
    "load",
    "load_csv",
    "mnist",
    "random_split",
    "read_csv",
    "read_idx",
    "read_idx_pair",
    "read_npz",
    "scale_features",
    "stratified_split",
    "wine",
]


def load(
    path: str | os.PathLike[str],
    *,
    label: str | int | None = None,
    header: bool | None = None,
) -> LabeledData:
    """Read labelled data from a file, or from a folder of IDX files.

    Parameters
    ----------
    path
        A file whose name ends in ``.npz`` (see `read_npz`) or ``.csv`` or ``.csv.gz`` (`read_csv`);
        an IDX file of images with its labels beside it, or a folder of such pairs
        (`read_idx_pair`), plain or gzipped, recognised by content whatever the name; a folder or an
        archive of CIFAR-10's binary version.
    label, header
        For .csv only, see `read_csv`.

    Raises
    ------
    OSError
        If the file cannot be opened (`FileNotFoundError` if there is none).
    ValueError
        If the file is of no known kind or malformed, or if `label` or `header` is given for a file
        that is not .csv.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return read_csv(path, label=label, header=header)
    if label is not None or header is not None:
        raise ValueError(f"{path}: `label` and `header` are for .csv files only")
    if name.endswith(".npz"):
        return read_npz(path)
    if is_cifar10(path):
        return cifar10.load(path)
    if path.is_dir() or is_idx(path):
        return read_idx_pair(path)
    raise ValueError(
        f"{path}: must be a .npz or .csv file, or MNIST-style IDX files; by its name and content "
        "it is none of these"
    )
