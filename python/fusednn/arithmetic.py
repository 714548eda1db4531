"""Operators of what holds an array: results are arrays of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Arithmetic:
    """Operators and indexing on the array `value`, as of Keras' variables.

    ``2 * v``, ``v @ w``, ``v[0]`` and ``v < 0`` are arrays, which do not follow the variable; ``v
    += 1`` makes `v` an array, too, and leaves the variable as it is: `assign_add` changes it. Two
    variables are equal where they are one and the same (Keras compares elements), so that lists
    of them can be searched.
    """

    __slots__ = ()

    @property
    def value(self) -> Array:
        """The array."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return int(self.value.ndim)

    def __getitem__(self, key: Any) -> Any:
        return self.value[key].copy()

    def __neg__(self) -> Any:
        return -self.value

    def __pos__(self) -> Any:
        return +self.value

    def __abs__(self) -> Any:
        return abs(self.value)

    def __round__(self, ndigits: int | None = None) -> Any:
        return self.value.round(ndigits or 0)

    def __lt__(self, other: Any) -> Any:
        return self.value < array_of(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= array_of(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > array_of(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= array_of(other)

    def __add__(self, other: Any) -> Any:
        return self.value + array_of(other)

    def __radd__(self, other: Any) -> Any:
        return array_of(other) + self.value

    def __sub__(self, other: Any) -> Any:
        return self.value - array_of(other)

    def __rsub__(self, other: Any) -> Any:
        return array_of(other) - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * array_of(other)

    def __rmul__(self, other: Any) -> Any:
        return array_of(other) * self.value

    def __truediv__(self, other: Any) -> Any:
        return self.value / array_of(other)

    def __rtruediv__(self, other: Any) -> Any:
        return array_of(other) / self.value

    def __floordiv__(self, other: Any) -> Any:
        return self.value // array_of(other)

    def __rfloordiv__(self, other: Any) -> Any:
        return array_of(other) // self.value

    def __mod__(self, other: Any) -> Any:
        return self.value % array_of(other)

    def __rmod__(self, other: Any) -> Any:
        return array_of(other) % self.value

    def __pow__(self, other: Any) -> Any:
        return self.value ** array_of(other)

    def __rpow__(self, other: Any) -> Any:
        return array_of(other) ** self.value

    def __matmul__(self, other: Any) -> Any:
        return self.value @ array_of(other)

    def __rmatmul__(self, other: Any) -> Any:
        return array_of(other) @ self.value


def array_of(operand: Any) -> Any:
    """Return the array of a variable, and anything else as it is."""
    return operand.value if isinstance(operand, Arithmetic) else operand
