"""Splitting examples into a training and a test set at random, as Keras' data sets of houses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn._arguments import check_count, check_number

Array = NDArray[Any]
Pairs = tuple[tuple[Array, Array], tuple[Array, Array]]


def random_split(x: Array, y: Array, test_split: float = 0.2, seed: int = 113) -> Pairs:
    """Return ``(x_train, y_train), (x_test, y_test)``, the rows of `x` and `y` in a random order.

    Parameters
    ----------
    x, y : ndarray
        Rows along the first axis, as many of both.
    test_split
        Share of the test set, in [0, 1); the last rows of the order.
    seed
        Of the order, a non-negative integer. The same as Keras' `california_housing` draws.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    """
    share = check_number("test_split", test_split, minimum=0, below=1)
    if len(x) != len(y):
        raise ValueError(f"`y` must have as many rows as `x`, {len(x)}. Received: {len(y)}")
    order = np.arange(len(x))
    random = np.random.RandomState(check_count("seed", seed, 0))  # Keras' order
    random.shuffle(order)
    x, y = x[order], y[order]
    cut = int(len(x) * (1 - share))
    return (x[:cut].copy(), y[:cut].copy()), (x[cut:].copy(), y[cut:].copy())
