"""Smooth rectifiers without exponentials."""

from __future__ import annotations

import numpy as np

from fusednn._arguments import check_number
from fusednn.activations.base import Array, Elementwise


class Squareplus(Elementwise):
    """``(x + sqrt(x**2 + b)) / 2`` (Barron 2021). dx = grad * y**2 / (y**2 + b / 4).

    Parameters
    ----------
    b
        Smoothness, > 0.
    """

    name = "squareplus"
    work_arrays = 2
    config_names = ("b",)

    def __init__(self, b: float = 4.0) -> None:
        self.b = check_number("b", b, above=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        # y(x) y(-x) = b / 4: below 0, where the sum would cancel, it is that over y(-x).
        size, above = self._work(x, work)
        np.greater_equal(x, 0, out=above)
        np.abs(x, out=size)
        out = np.multiply(x, x, out=out)
        out += self.b
        np.sqrt(out, out=out)
        out += size
        out *= 0.5
        np.divide(self.b / 4, out, out=size)
        above *= out  # infinity times 0 is NaN, which `fmax` passes over
        np.fmax(above, size, out=out)
        return out

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``y**2 / (y**2 + b / 4)``."""
        square = np.multiply(y, y, out=work[0])
        np.add(square, self.b / 4, out=out)
        np.divide(square, out, out=out)


class SparsePlus(Elementwise):
    """0 up to -1, ``(x + 1)**2 / 4`` up to 1, then ``x``. dx = grad * min(sqrt(y), 1)."""

    name = "sparse_plus"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        excess = np.maximum(x, 1, out=self._work(x, work)[0])
        excess -= 1
        out = np.clip(x, -1, 1, out=out)
        out += 1
        out *= out
        out *= 0.25
        out += excess
        return out

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``min(sqrt(y), 1)``."""
        np.sqrt(y, out=out)
        np.minimum(out, 1, out=out)
