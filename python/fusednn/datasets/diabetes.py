"""Diabetes: 442 patients, 10 features, and how far the disease was a year later, a number.

Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, Annals of
Statistics (2004), as scikit-learn ships it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusednn.datasets.random_split import Pairs, random_split
from fusednn.datasets.scikit_learn_files import Array, tables

_NAMES = ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz")


def load_data(test_split: float = 0.2, seed: int = 113) -> Pairs:
    """Return ``(x_train, y_train), (x_test, y_test)``, for regression.

    Parameters
    ----------
    test_split, seed
        The split, see `fusednn.datasets.random_split`.

    Returns
    -------
    x_train, x_test : ndarray, float32, shape (n, 10)
        Age, sex, body mass index, blood pressure and six values of the serum, as they were
        measured (scikit-learn scales them unless told otherwise): standardise them, as with
        `layers.Normalization`.
    y_train, y_test : ndarray, float32, shape (n,)
        25 ... 346.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    ValueError
        If `test_split` is outside [0, 1).
    """
    x, y = tables("the data on diabetes", _NAMES, _read, "load_diabetes")
    return random_split(x.astype(np.float32), y.astype(np.float32), test_split, seed)


def _read(features: Path, targets: Path) -> tuple[Array, Array]:
    return np.loadtxt(features, ndmin=2), np.loadtxt(targets)
