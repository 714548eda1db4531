"""Functions of whole rows: distributions over the last axis, or over others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fusednn._arguments import check_count
from fusednn.activations.base import Activation, Array


class Distribution(Activation):
    """Base of functions over one axis or several.

    Parameters
    ----------
    axis
        An axis of the whole array, the batch being axis 0, or several; the last one if not given.
    """

    config_names: ClassVar[tuple[str, ...]] = ("axis",)

    def __init__(self, axis: int | Sequence[int] = -1) -> None:
        if isinstance(axis, Sequence) and not isinstance(axis, str):
            self.axis: int | tuple[int, ...] = tuple(_checked(each) for each in axis)
        else:
            self.axis = _checked(axis)

    def is_link(self, name: str | None) -> bool:
        """Whether a loss may take the place of this function: of the last axis alone."""
        return super().is_link(name) and self.axis == -1


class Softmax(Distribution):
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` over the last axis, or over `axis`.

    dx = y * (grad - sum(grad * y)).

    Parameters
    ----------
    axis
        An axis of the whole array, the batch being axis 0, or several; the last one if not given.
    """

    name = "softmax"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        highest = x.max(axis=self.axis, keepdims=True, initial=-np.inf)
        with np.errstate(invalid="ignore"):  # infinite inputs give NaN, without a warning
            out = np.subtract(x, highest, out=out)
            np.exp(out, out=out)
            out /= out.sum(axis=self.axis, keepdims=True)
        return out

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        if self.axis == -1:
            mean = np.einsum("...i,...i->...", grad, y)[..., None]
        else:
            mean = (grad * y).sum(axis=self.axis, keepdims=True)
        out = np.subtract(grad, mean, out=out)
        out *= y
        return out


class LogSoftmax(Distribution):
    """``x - max(x) - log(sum(exp(x - max(x))))`` over the last axis, or over `axis`.

    dx = grad - exp(y) * sum(grad).

    Parameters
    ----------
    axis
        An axis of the whole array, the batch being axis 0, or several; the last one if not given.
    """

    name = "log_softmax"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        highest = x.max(axis=self.axis, keepdims=True, initial=-np.inf)
        with np.errstate(invalid="ignore", divide="ignore"):
            out = np.subtract(x, highest, out=out)
            shares = np.exp(out, out=self._work(x, work)[0])
            out -= np.log(shares.sum(axis=self.axis, keepdims=True))
        return out

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        shares = np.exp(y, out=self._work(y, work)[0])
        shares *= grad.sum(axis=self.axis, keepdims=True)
        return np.subtract(grad, shares, out=out)


def _checked(axis: int) -> int:
    # No axis lies below this; where an array has too few of them, NumPy says so.
    return check_count("axis", axis, minimum=-64)
