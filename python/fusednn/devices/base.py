"""A place for arrays, and the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fusednn import _core
from fusednn.devices.products import both_products, bound_product

Array = np.ndarray[Any, np.dtype[Any]]


class Device:
    """Where arrays lie and products of matrices are computed; this class is the CPU.

    NumPy's functions and ufuncs compute where the arrays that they are given lie, because CuPy's
    arrays take them over. What is left for a device is what no array says: where new arrays go, how
    numbers get there and back, and whose matrix product it is.

    Attributes
    ----------
    name : str
        As `fusednn.device` takes it.
    """

    name = "cpu"

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Make an uninitialised array here."""
        return np.empty(shape, dtype)

    def full(self, shape: tuple[int, ...], value: float, dtype: DTypeLike) -> Array:
        """Make an array here that holds `value` everywhere."""
        # Zeros come from the system page by page, when first written.
        return np.full(shape, value, dtype) if value else np.zeros(shape, dtype)

    def array(self, values: Array) -> Array:
        """Make a copy, here, of an array of NumPy."""
        return values.copy()

    def write(self, to: Array, values: Array) -> None:
        """Copy an array of NumPy into `to`, an array here of the same shape."""
        np.copyto(to, values, casting="same_kind")

    def fitting(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """Return an array here in C order and of this type: itself, or a copy."""
        return np.ascontiguousarray(values, dtype)

    def take_rows(self, array: Array, rows: Array, out: Array) -> None:
        """Write these rows of an array here to `out`; the numbers of rows are NumPy's."""
        _core.take_rows(array, rows, out)

    def read(self, array: Array) -> Array:
        """Make a copy, of NumPy, of an array here."""
        return array.copy()

    def scalar(self, value: float, dtype: DTypeLike) -> Any:
        """Return a number in the form that ufuncs take fastest beside arrays here."""
        return np.asarray(value, dtype)

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        """Write ``a @ b`` of two matrices, each in C order or the transpose of one that is."""
        np.matmul(a, b, out)

    def product(self, a: Array, b: Array, out: Array) -> Callable[[], None]:
        """Return a function that does `matmul` with these arrays, each time that it is called."""
        return bound_product(a, b, out)

    def both(self, first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
        """Return a function that calls two of `product`; neither may read what the other writes."""
        return both_products(first, second)

    def sum_rows(self, matrix: Array, ones: Array, out: Array) -> None:
        """Write the sum of a matrix's rows, as a product with `ones`: BLAS is 4 times as fast."""
        np.dot(ones, matrix, out)

    def working(self) -> AbstractContextManager[Any]:
        """Return a context for all work with arrays here."""
        return nullcontext()

    def __repr__(self) -> str:
        return f"<fusednn device {self.name}>"

    def __reduce__(self) -> Any:
        from fusednn.devices import by_name

        return by_name, (self.name,)

    def __deepcopy__(self, memo: Any) -> Device:
        return self  # there is only one of each name


CPU = Device()

_moves = 0


def moves() -> int:
    """Count what happened to variables that lists of them have to follow.

    While it is the same, no variable moved to another device or got another rate.
    """
    return _moves


def count_move() -> None:
    """Tell those who keep references to the arrays of variables, or arranged them by rate."""
    global _moves
    _moves += 1
