"""The 8 x 8 handwritten digits that come with scikit-learn.

1,797 real digits, ten classes, pixels 0 ... 16. Source: E. Alpaydin, C. Kaynak, Optical Recognition
of Handwritten Digits, UCI Machine Learning Repository (1998), the test part, as scikit-learn ships
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fusednn.datasets.csv_file import read_csv
from fusednn.datasets.labeled_data import LabeledData
from fusednn.datasets.scaling import scale_features
from fusednn.datasets.scikit_learn_files import tables

_PIXEL_MAX = 16.0


def load_data(
    test_fraction: float = 0.2, seed: int = 0
) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    """Return ``(x_train, y_train), (x_test, y_test)``, a stratified split of the digits.

    Named and shaped as the ``load_data`` of Keras' data sets, except that the pixels are already
    divided by their maximum, 16, and the images flattened.

    Parameters
    ----------
    test_fraction, seed
        The split, see `fusednn.datasets.stratified_split`.

    Returns
    -------
    x_train, x_test : ndarray, float32, shape (n, 64)
        Pixels in [0, 1], row after row.
    y_train, y_test : ndarray, int64, shape (n,)
        The digit, 0 ... 9.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    ValueError
        If `test_fraction` is outside (0, 1).
    """
    data = load().with_test_set(test_fraction, seed)
    data, _ = scale_features(data)
    return (data.x_train, data.y_train), (data.x_test, data.y_test)


def load() -> LabeledData:
    """Return all 1,797 digits as 64 pixels of 0 ... 16, without a test set."""
    x, y = tables("the digits", ("digits.csv.gz",), _read, "load_digits")
    return LabeledData.from_arrays("digits", (x, y), names=("data", "target"), pixel_max=_PIXEL_MAX)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    table = read_csv(path)
    return table.x_train, table.y_train
