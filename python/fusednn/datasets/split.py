"""Splitting examples into a training and a test set, class by class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def stratified_split(
    y: NDArray[Any], test_fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of a training and a test set in which each class has the same share.

    A class of c examples gives round(c * test_fraction) of them to the test set, but at least one
    and not its last; a class with a single example stays in the training set. The same arguments
    give the same split.

    Parameters
    ----------
    y : ndarray, shape (n,)
        Labels.
    test_fraction
        Share of the test set, in (0, 1).
    seed
        Seed of the random choice, a non-negative integer.

    Returns
    -------
    train, test : ndarray of indices
        Both ascending; together every index once.

    Raises
    ------
    ValueError
        If `test_fraction` is outside (0, 1), or if no class has two examples.

    Notes
    -----
    scikit-learn's ``train_test_split(stratify=y)`` fixes the size of the test set instead, and
    refuses a class with a single example.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(
            f"`test_fraction` must be in (0, 1). Received: test_fraction={test_fraction}"
        )
    random = np.random.default_rng(seed)
    in_test = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        count = min(max(round(len(members) * test_fraction), 1), len(members) - 1)
        in_test[random.permutation(members)[:count]] = True
    if not in_test.any():
        raise ValueError("no class has two examples, so that none can go to a test set")
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)
