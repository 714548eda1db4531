"""Losses that are the mean of a function of each element and its target."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_number
from fusednn.losses.base import EPSILON, Array
from fusednn.losses.plain import PlainLoss
from fusednn.losses.scratch import Scratch


class ElementwiseLoss(PlainLoss):
    """Base of losses ``mean(f(t, p))`` over the last axis.

    A new one is a subclass with `elements`.
    """

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """Write f, and its derivative with respect to p.

        Parameters
        ----------
        t, p
            Targets and predictions, shape (rows, K).
        value, slope
            Where the two go, apart from `t` and `p`; `slope` may be None.
        scratch
            Arrays for intermediate results.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `elements`.")

    def per_row(
        self,
        y_true: Array,
        y_pred: Array,
        *,
        from_logits: bool,
        work: Array,
        scale: float | None,
        scratch: Scratch,
    ) -> Array:
        """See `Loss.per_row`."""
        features = max(y_pred.shape[1], 1)
        value = scratch.matrix("value")
        slope = None if scale is None else scratch.matrix("slope")
        self.elements(y_true, y_pred, value, slope, scratch)
        losses = value.dot(scratch.ones(), out=scratch.vector("losses"))
        losses /= features
        if slope is not None and scale is not None:
            np.multiply(slope, scale / features, out=work)
        return losses


class MeanAbsoluteError(ElementwiseLoss):
    """``mean(abs(p - t))``; PyTorch's `L1Loss`. The derivative at 0 is 0.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """See `ElementwiseLoss.elements`."""
        np.subtract(p, t, out=value)
        if slope is not None:
            np.sign(value, out=slope)
        np.abs(value, out=value)


class MeanAbsolutePercentageError(ElementwiseLoss):
    """``100 * mean(abs(p - t) / max(abs(t), 1e-7))``.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """See `ElementwiseLoss.elements`."""
        share = np.abs(t, out=scratch.matrix("share"))
        np.maximum(share, EPSILON, out=share)
        np.divide(100, share, out=share)
        np.subtract(p, t, out=value)
        if slope is not None:
            np.sign(value, out=slope)
            slope *= share
        np.abs(value, out=value)
        value *= share


class MeanSquaredLogarithmicError(ElementwiseLoss):
    """``mean((log(1 + p) - log(1 + t))**2)``, p and t at least 1e-7; below, the derivative is 0.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """See `ElementwiseLoss.elements`."""
        high = np.maximum(p, EPSILON, out=scratch.matrix("high"))
        np.log1p(high, out=value)
        other = np.maximum(t, EPSILON, out=scratch.matrix("other"))
        value -= np.log1p(other, out=other)
        if slope is not None:
            high += 1
            np.divide(value, high, out=slope)
            slope *= 2
            low = np.less_equal(p, EPSILON, out=scratch.matrix("low", np.bool_))
            np.copyto(slope, 0, where=low)
        np.multiply(value, value, out=value)


class Huber(ElementwiseLoss):
    """Mean of ``e**2 / 2`` where abs(e) <= delta, else ``delta * (abs(e) - delta / 2)``, e = p - t.

    PyTorch's `HuberLoss` gives the same number.

    Parameters
    ----------
    delta
        > 0.
    reduction, dtype
        See `Loss`.
    name
        "huber_loss" by default.
    """

    config_names: ClassVar[tuple[str, ...]] = ("delta",)

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: str | None = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.delta = check_number("delta", delta, above=0)

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """See `ElementwiseLoss.elements`."""
        # With c = e clipped to [-delta, delta] both cases are c * (e - c / 2).
        clipped = scratch.matrix("clipped error") if slope is None else slope
        np.subtract(p, t, out=value)
        np.clip(value, -self.delta, self.delta, out=clipped)
        half = np.multiply(clipped, 0.5, out=scratch.matrix("half"))
        value -= half
        value *= clipped


class LogCosh(ElementwiseLoss):
    """``mean(log(cosh(p - t)))``, finite for all finite p; the derivative is ``tanh(p - t)``.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """See `ElementwiseLoss.elements`."""
        # abs(e) + log1p(exp(-2 abs(e))) - log 2
        np.subtract(p, t, out=value)
        if slope is not None:
            np.tanh(value, out=slope)
        np.abs(value, out=value)
        tail = np.multiply(value, -2, out=scratch.matrix("tail"))
        np.exp(tail, out=tail)
        value += np.log1p(tail, out=tail)
        value -= math.log(2)


class Poisson(ElementwiseLoss):
    """``mean(p - t * log(p + 1e-7))``; PyTorch's `PoissonNLLLoss` with ``log_input=False``.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """See `ElementwiseLoss.elements`."""
        moved = np.add(p, EPSILON, out=scratch.matrix("moved"))
        np.log(moved, out=value)
        value *= t
        np.subtract(p, value, out=value)
        if slope is not None:
            np.divide(t, moved, out=slope)
            np.subtract(1, slope, out=slope)


class Hinge(ElementwiseLoss):
    """``mean(max(1 - t * p, 0))`` with targets -1 or 1; 0 or 1 become these.

    As in Keras, targets are converted where all of a batch are 0 or 1.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    squared: ClassVar[bool] = False

    def targets(self, y_true: Array, shape: tuple[int, ...], scratch: Scratch) -> Array:
        """See `Loss.targets`."""
        targets = super().targets(y_true, shape, scratch)
        binary = np.equal(targets, 0, out=scratch.matrix("zeros", np.bool_))
        binary |= np.equal(targets, 1, out=scratch.matrix("ones of targets", np.bool_))
        if not binary.all():
            return targets
        signs = np.multiply(targets, 2, out=scratch.matrix("signs"))
        signs -= 1
        return signs

    def elements(
        self, t: Array, p: Array, value: Array, slope: Array | None, scratch: Scratch
    ) -> None:
        """See `ElementwiseLoss.elements`."""
        np.multiply(t, p, out=value)
        np.subtract(1, value, out=value)
        np.maximum(value, 0, out=value)
        if slope is not None:
            if self.squared:
                np.multiply(value, -2, out=slope)
            else:
                np.sign(value, out=slope)
                np.negative(slope, out=slope)
            slope *= t
        if self.squared:
            np.multiply(value, value, out=value)


class SquaredHinge(Hinge):
    """``mean(max(1 - t * p, 0)**2)`` with targets as of `Hinge`.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    squared = True


def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the mean absolute error of each sample; see `MeanAbsoluteError`."""
    return MeanAbsoluteError().call(y_true, y_pred)


def mean_absolute_percentage_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the error of each sample in percent; see `MeanAbsolutePercentageError`."""
    return MeanAbsolutePercentageError().call(y_true, y_pred)


def mean_squared_logarithmic_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the error of each sample's logarithms; see `MeanSquaredLogarithmicError`."""
    return MeanSquaredLogarithmicError().call(y_true, y_pred)


def huber(y_true: ArrayLike, y_pred: ArrayLike, delta: float = 1.0) -> Array:
    """Return the Huber loss of each sample; see `Huber`."""
    return Huber(delta).call(y_true, y_pred)


def log_cosh(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the loss of each sample; see `LogCosh`."""
    return LogCosh().call(y_true, y_pred)


def poisson(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the Poisson loss of each sample; see `Poisson`."""
    return Poisson().call(y_true, y_pred)


def hinge(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the hinge loss of each sample; see `Hinge`."""
    return Hinge().call(y_true, y_pred)


def squared_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the squared hinge loss of each sample; see `SquaredHinge`."""
    return SquaredHinge().call(y_true, y_pred)
