"""Functions of whole rows: distributions over the last axis."""

from __future__ import annotations

import numpy as np

from fusednn.activations.base import Activation, Array


class Softmax(Activation):
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` over the last axis.

    dx = y * (grad - sum(grad * y)).
    """

    name = "softmax"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        highest = x.max(axis=-1, keepdims=True, initial=-np.inf)
        with np.errstate(invalid="ignore"):  # infinite inputs give NaN, without a warning
            out = np.subtract(x, highest, out=out)
            np.exp(out, out=out)
            out /= out.sum(axis=-1, keepdims=True)
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
        mean = np.einsum("...i,...i->...", grad, y)[..., None]
        out = np.subtract(grad, mean, out=out)
        out *= y
        return out


class LogSoftmax(Activation):
    """``x - max(x) - log(sum(exp(x - max(x))))`` over the last axis.

    dx = grad - exp(y) * sum(grad).
    """

    name = "log_softmax"
    work_arrays = 1

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        highest = x.max(axis=-1, keepdims=True, initial=-np.inf)
        with np.errstate(invalid="ignore", divide="ignore"):
            out = np.subtract(x, highest, out=out)
            shares = np.exp(out, out=self._work(x, work)[0])
            out -= np.log(shares.sum(axis=-1, keepdims=True))
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
        shares *= grad.sum(axis=-1, keepdims=True)
        return np.subtract(grad, shares, out=out)
