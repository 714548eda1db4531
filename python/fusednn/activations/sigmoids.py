"""Functions with two asymptotes or bounds, and the logarithm of one."""

from __future__ import annotations

import numpy as np

from fusednn.activations.base import Array, Elementwise
from fusednn.activations.rectifiers import write_inside


class Sigmoid(Elementwise):
    """``1 / (1 + exp(-x))``: accurate on both sides, finite for all x. dx = grad * y * (1 - y)."""

    name = "sigmoid"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return write_sigmoid(x, out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``y * (1 - y)``."""
        np.subtract(1, y, out=out)
        out *= y


class Tanh(Elementwise):
    """The hyperbolic tangent. dx = grad * (1 - y**2)."""

    name = "tanh"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return np.tanh(x, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``1 - y**2``."""
        np.multiply(y, y, out=out)
        np.subtract(1, out, out=out)


class TanhShrink(Elementwise):
    """``x - tanh(x)``. dx = grad * tanh(x)**2."""

    name = "tanh_shrink"
    needs_input = True
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return np.subtract(x, np.tanh(x, out=self._work(x, work)[0]), out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``tanh(x)**2``."""
        assert x is not None
        np.tanh(x, out=out)
        out *= out


class HardTanh(Elementwise):
    """``min(max(x, -1), 1)``; the derivative at the bounds is 0."""

    name = "hard_tanh"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return np.clip(x, -1, 1, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """1 where -1 < y < 1."""
        write_inside(y, -1, 1, 1.0, out, work)


class HardSigmoid(Elementwise):
    """``min(max(x / 6 + 1 / 2, 0), 1)``, as Keras 3; Keras 2 had ``0.2 * x + 0.5``.

    The derivative at the bounds is 0.
    """

    name = "hard_sigmoid"
    work_arrays = 1
    _steepness = 1 / 6

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        out = np.multiply(x, self._steepness, out=out)
        out += 0.5
        return np.clip(out, 0, 1, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """Write the steepness where 0 < y < 1."""
        write_inside(y, 0, 1, self._steepness, out, work)


class SparseSigmoid(HardSigmoid):
    """``min(max((x + 1) / 2, 0), 1)``; the derivative at the bounds is 0."""

    name = "sparse_sigmoid"
    _steepness = 0.5


class Softsign(Elementwise):
    """``x / (1 + abs(x))``. dx = grad * (1 - abs(y))**2."""

    name = "softsign"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        size = np.abs(x, out=self._work(x, work)[0])
        size += 1
        return np.divide(x, size, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``(1 - abs(y))**2``."""
        np.abs(y, out=out)
        np.subtract(1, out, out=out)
        out *= out


class LogSigmoid(Elementwise):
    """``log(1 / (1 + exp(-x)))``, finite for all finite x. dx = grad * (1 - exp(y))."""

    name = "log_sigmoid"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        low: Array = self._work(x, work)[0]
        np.minimum(x, 0, out=low)
        out = _log1p_exp_of_minus_abs(x, out)
        return np.subtract(low, out, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``1 - exp(y)``."""
        np.expm1(y, out=out)
        np.negative(out, out=out)


class Softplus(Elementwise):
    """``log(1 + exp(x))``, finite for all finite x. dx = grad * (1 - exp(-y))."""

    name = "softplus"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        high = np.maximum(x, 0, out=self._work(x, work)[0])
        out = _log1p_exp_of_minus_abs(x, out)
        out += high
        return out

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``1 - exp(-y)``."""
        np.negative(y, out=out)
        np.expm1(out, out=out)
        np.negative(out, out=out)


def write_sigmoid(x: Array, out: Array | None) -> Array:
    """Return the logistic function of `x`, in `out` where it is given."""
    out = np.negative(x, out=out)
    with np.errstate(over="ignore"):  # the reciprocal of infinity is the right 0
        np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def _log1p_exp_of_minus_abs(x: Array, out: Array | None) -> Array:
    out = np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    return np.log1p(out, out=out)
