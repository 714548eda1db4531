"""Arrays for intermediate results of a loss, made at first use and kept for the next batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Scratch:
    """Arrays for predictions of shape (rows, width), each known by a name.

    Uninitialised when first asked for, and later as they were left. A plan keeps one `Scratch`
    for its loss, so that only the first batch allocates; a call outside of a plan makes its own.

    Parameters
    ----------
    rows, width : int
        Shape of the predictions.
    dtype : numpy.dtype
        Type of the predictions, and of the arrays that are given no other.

    Attributes
    ----------
    best : ndarray of intp, shape (rows,), or None
        Place of the largest prediction in each row of the latest batch, where the loss had to find
        it: accuracies need not search again.
    """

    def __init__(self, rows: int, width: int, dtype: np.dtype[Any]) -> None:
        self.rows = rows
        self.width = width
        self.dtype = dtype
        self.best: Array | None = None
        self._arrays: dict[str, Array] = {}

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """For predictions of shape (..., width), seen as (rows, width)."""
        *outer, width = shape
        return cls(math.prod(outer), width, dtype)

    def fits(self, predictions: Array) -> bool:
        """Whether its arrays are of the shape and type for these predictions."""
        shape = (self.rows * self.width, self.width)
        return self.dtype == predictions.dtype and shape == (
            predictions.size,
            predictions.shape[-1],
        )

    def vector(self, name: str, dtype: Any = None) -> Array:
        """Array of shape (rows,)."""
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = np.empty(self.rows, dtype or self.dtype)
        return array

    def matrix(self, name: str, dtype: Any = None) -> Array:
        """Array of shape (rows, width)."""
        array = self._arrays.get(name)
        if array is None:
            array = np.empty((self.rows, self.width), dtype or self.dtype)
            self._arrays[name] = array
        return array

    def ones(self) -> Array:
        """Ones of shape (width,): a product with them sums rows 4 times as fast as `sum`."""
        array = self._arrays.get("ones")
        if array is None:
            array = self._arrays["ones"] = np.ones(self.width, self.dtype)
        return array

    def places(self, columns: Array) -> Array:
        """Places of the elements (row, columns[row]) in a flattened (rows, width) array."""
        starts = self._arrays.get("row starts")
        if starts is None:
            starts = self._arrays["row starts"] = np.arange(self.rows) * self.width
        return np.add(starts, columns, out=self.vector("places", np.intp))

    def total(self, values: Array) -> float:
        """Sum of an array of shape (rows,), in float64."""
        wide = self.vector("wide", np.float64)
        np.copyto(wide, values)
        return float(np.add.reduce(wide))


def blocks_of_rows(shape: tuple[int, ...], elements: int = 4096) -> Iterator[slice]:
    """Yield the rows of an array in parts of about so many elements, which stay in a cache.

    What is computed part by part needs memory for a part, however large the batch is.
    """
    size = max(1, elements // max(1, math.prod(shape[1:])))
    for begin in range(0, shape[0] if shape else 0, size):
        yield slice(begin, begin + size)
