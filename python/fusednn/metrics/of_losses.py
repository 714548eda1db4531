"""Means of losses, as metrics."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn import losses
from fusednn.losses import Loss
from fusednn.losses.scratch import Scratch
from fusednn.metrics.base import Array, MeanOverSamples, aligned, element_weights


class MeanSquaredError(MeanOverSamples):
    """Mean of ``(y_pred - y_true)**2`` over all elements."""

    _direction = "down"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        dtype = np.result_type(y_pred, y_true)
        difference = self._kept("difference", y_pred.shape, dtype)
        np.subtract(y_pred, aligned(y_true, y_pred), out=difference)
        return np.square(difference, out=difference)


class RootMeanSquaredError(MeanSquaredError):
    """The root of the mean of ``(y_pred - y_true)**2`` over all elements of all batches."""

    def result(self) -> float:
        """See `Metric.result`."""
        return float(np.sqrt(super().result()))


class LossMean(MeanOverSamples):
    """Base of metrics that are the mean of a loss over the samples."""

    _direction = "down"

    loss_class: ClassVar[type[Loss]]

    def __init__(
        self, name: str | None = None, dtype: str | None = None, **loss_options: Any
    ) -> None:
        super().__init__(name, dtype)
        self.loss = self.loss_class(**loss_options)
        self._scratch: Scratch | None = None

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        accepted = self.option_defaults()
        own = {name: v for name, v in self.loss.get_config().items() if name in accepted}
        return own | super().get_config()

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        if y_pred.dtype not in (np.float32, np.float64) or not y_pred.ndim:
            return self.loss.call(y_true, y_pred)
        scratch = self._scratch
        if scratch is None or not scratch.fits(y_pred):
            scratch = self._scratch = Scratch.of(y_pred.shape, y_pred.dtype)
        return self.loss.of_samples(y_true, y_pred, scratch)


class PlainLossMean(LossMean):
    """Base of means of losses without options."""

    def __init__(self, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name, dtype)


class MeanAbsoluteError(PlainLossMean):
    """Mean of `losses.MeanAbsoluteError`."""

    loss_class = losses.MeanAbsoluteError


class MeanAbsolutePercentageError(PlainLossMean):
    """Mean of `losses.MeanAbsolutePercentageError`."""

    loss_class = losses.MeanAbsolutePercentageError


class MeanSquaredLogarithmicError(PlainLossMean):
    """Mean of `losses.MeanSquaredLogarithmicError`."""

    loss_class = losses.MeanSquaredLogarithmicError


class LogCoshError(PlainLossMean):
    """Mean of `losses.LogCosh`."""

    loss_class = losses.LogCosh

    def __init__(self, name: str | None = "logcosh", dtype: str | None = None) -> None:
        super().__init__(name or "logcosh", dtype)


class Poisson(PlainLossMean):
    """Mean of `losses.Poisson`."""

    loss_class = losses.Poisson


class KLDivergence(PlainLossMean):
    """Mean of `losses.KLDivergence`."""

    loss_class = losses.KLDivergence


class Hinge(PlainLossMean):
    """Mean of `losses.Hinge`."""

    loss_class = losses.Hinge


class SquaredHinge(PlainLossMean):
    """Mean of `losses.SquaredHinge`."""

    loss_class = losses.SquaredHinge


class CategoricalHinge(PlainLossMean):
    """Mean of `losses.CategoricalHinge`."""

    loss_class = losses.CategoricalHinge


class BinaryCrossentropy(LossMean):
    """Mean of `losses.BinaryCrossentropy`, whose options it takes."""

    loss_class = losses.BinaryCrossentropy

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
        )


class CategoricalCrossentropy(LossMean):
    """Mean of `losses.CategoricalCrossentropy`, whose options it takes."""

    loss_class = losses.CategoricalCrossentropy

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ) -> None:
        super().__init__(
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(LossMean):
    """Mean of `losses.SparseCategoricalCrossentropy`, whose options it takes.

    With `ignore_class`, as in Keras: what is ignored adds nothing to a mean with weights, and
    counts as a loss of 0 where there are none (the loss leaves it out in either case).
    """

    loss_class = losses.SparseCategoricalCrossentropy

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """See `MeanOverSamples.update_state`."""
        ignored = self.loss.get_config()["ignore_class"]
        if ignored is None or sample_weight is None or len(values) != 2:
            super().update_state(*values, sample_weight=sample_weight)
            return
        labels = np.asarray(values[0])
        found = self.per_sample(labels, np.asarray(values[1]))
        weights = element_weights(sample_weight, found.shape)
        weights = weights * (labels.reshape(found.shape) != ignored)
        places = math.prod(found.shape[1:]) or 1
        self.total += float((found * weights).sum(dtype=np.float64)) / places
        self.count += float(weights.sum()) / places


class CosineSimilarity(LossMean):
    """Mean cosine of the angle between predictions and targets: the loss has the other sign."""

    _direction = "up"

    loss_class = losses.CosineSimilarity

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(
            name,
            dtype,
            axis=axis,
        )

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        cosines = super().per_sample(y_true, y_pred)
        return np.negative(cosines, out=cosines)
