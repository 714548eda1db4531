"""Breast cancer in Wisconsin: 569 cells' nuclei, 30 features, malignant or benign.

Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, Breast Cancer Wisconsin (Diagnostic), UCI
Machine Learning Repository (1993), as scikit-learn ships it.
"""

from __future__ import annotations

from dataclasses import replace

from fusednn.datasets.labeled_data import LabeledData
from fusednn.datasets.scikit_learn_files import Array, counted_table, tables

#: Names of the classes, by their numbers.
CLASSES = ("malignant", "benign")


def load_data(
    test_fraction: float = 0.2, seed: int = 0
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return ``(x_train, y_train), (x_test, y_test)``, a stratified split.

    Parameters
    ----------
    test_fraction, seed
        The split, see `fusednn.datasets.stratified_split`.

    Returns
    -------
    x_train, x_test : ndarray, float32, shape (n, 30)
        Features as they were measured, of unlike units: standardise them, as with
        `layers.Normalization`.
    y_train, y_test : ndarray, int64, shape (n,)
        0 malignant, 1 benign.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    ValueError
        If `test_fraction` is outside (0, 1).
    """
    data = load().with_test_set(test_fraction, seed)
    return (data.x_train, data.y_train), (data.x_test, data.y_test)


def load() -> LabeledData:
    """Return all examples, without a test set."""
    parts = tables(
        "the data on breast cancer", ("breast_cancer.csv",), counted_table, "load_breast_cancer"
    )
    data = LabeledData.from_arrays("breast_cancer", parts, names=("data", "target"))
    return replace(data, classes=CLASSES)
