"""Piecewise linear functions without a bound above, or with kinks alone."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn import ops
from fusednn._arguments import check_number
from fusednn.activations.base import Activation, Array, Elementwise


class Linear(Activation):
    """The identity."""

    name = "linear"
    runs_on_gpu = True

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return _copied(x, out)

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        return _copied(grad, out)


class LeakyReLU(Activation):
    """``x`` where x > 0, else ``negative_slope * x``; through the fused kernels.

    Parameters
    ----------
    negative_slope
        >= 0, because the derivative is found from the sign of y. Keras' function has 0.2, its
        layer 0.3, PyTorch 0.01.
    """

    name = "leaky_relu"
    runs_on_gpu = True
    config_names: ClassVar[tuple[str, ...]] = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.2) -> None:
        self.negative_slope = check_number("negative_slope", negative_slope, minimum=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return ops.leaky_relu(x, self.negative_slope, out=out)

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        return ops.leaky_relu_backward(grad, y, self.negative_slope, out=out)


class ReLU(LeakyReLU):
    """``max(x, 0)``; the derivative at 0 is 0."""

    name = "relu"

    def __init__(self) -> None:
        super().__init__(0.0)

    def __call__(
        self,
        x: ArrayLike,
        negative_slope: float = 0.0,
        max_value: float | None = None,
        threshold: float = 0.0,
    ) -> Array:
        """Return the function of the layer `ReLU` with these options; ``max(x, 0)`` without."""
        y = Activation.__call__(self, x)
        if negative_slope == 0 and max_value is None and threshold == 0:
            return y
        return _bounded(y, np.asarray(x), negative_slope, max_value, threshold)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments; there are none."""
        return {}


class ReLU6(Elementwise):
    """``min(max(x, 0), 6)``; the derivative at 0 and 6 is 0."""

    name = "relu6"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return np.clip(x, 0, 6, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """1 where 0 < y < 6."""
        write_inside(y, 0, 6, 1.0, out, work)


class HardShrink(Elementwise):
    """``x`` where ``abs(x) > threshold``, else 0.

    Parameters
    ----------
    threshold
        >= 0; where it is 0 the derivative at 0 is 0.
    """

    name = "hard_shrink"
    work_arrays = 1
    config_names = ("threshold",)

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = check_number("threshold", threshold, minimum=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        large = np.abs(x, out=self._work(x, work)[0])
        np.greater(large, self.threshold, out=large)
        return np.multiply(x, large, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """1 where y is not 0."""
        np.not_equal(y, 0, out=out)


class SoftShrink(Elementwise):
    """``x - threshold`` above the threshold, ``x + threshold`` below its negative, else 0.

    Parameters
    ----------
    threshold
        >= 0.
    """

    name = "soft_shrink"
    work_arrays = 1
    config_names = ("threshold",)

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = check_number("threshold", threshold, minimum=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        nearest: Array = self._work(x, work)[0]
        np.clip(x, -self.threshold, self.threshold, out=nearest)
        return np.subtract(x, nearest, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """1 where y is not 0."""
        np.not_equal(y, 0, out=out)


def write_inside(y: Array, low: float, high: float, value: float, out: Array, work: Array) -> None:
    """Write `value` where ``low < y < high``, else 0 (NaN where y is NaN)."""
    np.greater(y, low, out=out)
    out *= np.less(y, high, out=work[0])
    out *= value
    out += np.subtract(y, y, out=work[0])


def _copied(source: Array, out: Array | None) -> Array:
    if out is None or out is source:
        return source
    np.copyto(out, source)
    return out


def _bounded(
    y: Array,
    x: Array,
    negative_slope: float,
    max_value: float | None,
    threshold: float,
) -> Array:
    below = x <= check_number("threshold", threshold, minimum=0)
    if max_value is not None:
        y = np.minimum(y, check_number("max_value", max_value, minimum=0))
    slope = check_number("negative_slope", negative_slope, minimum=0)
    low: Array = (slope * (x - threshold)).astype(y.dtype)
    return np.where(below, low, y)
