"""Functions of whole rows: distributions over the last axis, or over others."""

from __future__ import annotations

import math
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
    runs_on_gpu = True

    def __init__(self, axis: int | Sequence[int] = -1) -> None:
        if isinstance(axis, Sequence) and not isinstance(axis, str):
            self.axis: int | tuple[int, ...] = tuple(_checked(each) for each in axis)
        else:
            self.axis = _checked(axis)

    def is_link(self, name: str | None) -> bool:
        """Whether a loss may take the place of this function: of the last axis alone."""
        return super().is_link(name) and self.axis == -1

    def _reduced(self, work: Array) -> Array:
        """Return the beginning of `work` as an array of the reduced shape, axes kept."""
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        shape = list(work.shape)
        for axis in axes:
            shape[axis] = 1
        reduced: Array = work.reshape(-1)[: math.prod(shape)].reshape(shape)
        return reduced


class Softmax(Distribution):
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` over the last axis, or over `axis`.

    dx = y * (grad - sum(grad * y)).

    Parameters
    ----------
    axis
        An axis of the whole array, the batch being axis 0, or several; the last one if not given.
    """

    name = "softmax"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        if not x.size:  # no maximum
            return np.empty_like(x) if out is None else out
        each = self._reduced(self._work(x, work)[0])
        x.max(axis=self.axis, keepdims=True, out=each)
        with np.errstate(invalid="ignore"):  # infinite inputs give NaN, without a warning
            out = np.subtract(x, each, out=out)
            np.exp(out, out=out)
            out /= out.sum(axis=self.axis, keepdims=True, out=each)
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
        arrays = self._work(y, work)
        # CuPy's `einsum` takes no `out`.
        if self.axis == -1 and isinstance(y, np.ndarray):
            mean = self._reduced(arrays[0])
            np.einsum("...i,...i->...", grad, y, out=mean[..., 0])
        else:
            mean = np.multiply(grad, y, out=arrays[0]).sum(axis=self.axis, keepdims=True)
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
    work_arrays = 2

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        if not x.size:  # no maximum
            return np.empty_like(x) if out is None else out
        shares, other = self._work(x, work)
        each = self._reduced(other)
        x.max(axis=self.axis, keepdims=True, out=each)
        with np.errstate(invalid="ignore", divide="ignore"):
            out = np.subtract(x, each, out=out)
            np.exp(out, out=shares)
            shares.sum(axis=self.axis, keepdims=True, out=each)
            out -= np.log(each, out=each)
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
        shares: Array
        shares, other = self._work(y, work)
        np.exp(y, out=shares)
        shares *= grad.sum(axis=self.axis, keepdims=True, out=self._reduced(other))
        return np.subtract(grad, shares, out=out)


def _checked(axis: int) -> int:
    # No axis lies below this; where an array has too few of them, NumPy says so.
    return check_count("axis", axis, minimum=-64)
