"""Fractions of predictions that are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fusednn._arguments import check_number
from fusednn.losses.scratch import blocks_of_rows
from fusednn.metrics.base import Array, MeanOverSamples, Metric, aligned


class Accuracy(MeanOverSamples):
    """Fraction of predictions that equal their targets exactly.

    Shapes are equal, up to an axis of length 1 at the end. For class probabilities take one of the
    other accuracies; ``metrics=["accuracy"]`` picks it, see `resolve_accuracy`.
    """

    _direction = "up"

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        return self._equal(aligned(y_true, y_pred), y_pred)


class BinaryAccuracy(MeanOverSamples):
    """Fraction of predictions on their target's side of a threshold: ``y_true == (y_pred > 0.5)``.

    Parameters
    ----------
    name, dtype
        See `Metric`.
    threshold
        Keras' default 0.5 is meant for probabilities; for logits take 0.
    """

    _direction = "up"

    config_names = ("threshold",)

    def __init__(
        self, name: str | None = None, dtype: str | None = None, threshold: float = 0.5
    ) -> None:
        super().__init__(name, dtype)
        self.threshold = check_number("threshold", threshold)

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        above = self._kept("above", y_pred.shape, np.bool_)
        np.greater(y_pred, self.threshold, out=above)
        return self._equal(aligned(y_true, y_pred), above)


class PlaceAccuracy(MeanOverSamples):
    """Base of accuracies that compare the place of the largest prediction with a label's.

    A subclass has a method `true_places`.
    """

    _direction = "up"

    def true_places(self, y_true: Array, shape: tuple[int, ...]) -> Array:
        """Return the labels' places, shape (...), for predictions of this shape, (..., K)."""
        raise NotImplementedError(f"{type(self).__name__} must define `true_places`.")

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        places = self.true_places(y_true, y_pred.shape)
        best = self._kept("best", y_pred.shape[:-1], np.intp)
        return self._equal(places, y_pred.argmax(axis=-1, out=best))

    def update_places(
        self, y_true: Array, best: Array, classes: int, sample_weight: Array | None = None
    ) -> None:
        """As ``update_state(y_true, y_pred)``, where ``best = y_pred.argmax(axis=-1)`` is known."""
        places = self.true_places(y_true, (*best.shape, classes))
        self.add_samples(self._equal(places, best), sample_weight)


class CategoricalAccuracy(PlaceAccuracy):
    """Fraction of samples whose largest prediction is at the place of their one-hot label.

    Labels have the shape (..., K) of the predictions: probabilities or logits.
    """

    def true_places(self, y_true: Array, shape: tuple[int, ...]) -> Array:
        """See `PlaceAccuracy.true_places`."""
        if y_true.shape != shape or not shape:
            raise ValueError(
                f"`y_true` must be one-hot, of the shape of `y_pred`, {shape}. "
                f"Received: y_true of shape {y_true.shape}"
            )
        return y_true.argmax(axis=-1, out=self._kept("true", shape[:-1], np.intp))


class SparseCategoricalAccuracy(PlaceAccuracy):
    """Fraction of samples whose largest prediction is at the place of their integer label.

    Labels have the shape (...) of the predictions (..., K) without their last axis, or (..., 1).
    """

    def true_places(self, y_true: Array, shape: tuple[int, ...]) -> Array:
        """See `PlaceAccuracy.true_places`."""
        if y_true.shape == (*shape[:-1], 1):
            y_true = y_true[..., 0]
        if not shape or y_true.shape != shape[:-1]:
            raise ValueError(
                f"`y_true` must hold one integer label per sample, shape {shape[:-1]}. "
                f"Received: y_true of shape {y_true.shape}"
            )
        return y_true


class TopKCategoricalAccuracy(MeanOverSamples):
    """Fraction of samples whose one-hot label is among the `k` largest predictions.

    A label's prediction must be larger than all but k - 1 of the others; of equal ones those with
    lower places count as larger. A prediction that is not finite is no hit.

    Parameters
    ----------
    k : int
        At least 1.
    name, dtype
        See `Metric`.
    """

    _direction = "up"

    #: The accuracy that has labels of the same form.
    labels_class: ClassVar[type[PlaceAccuracy]] = CategoricalAccuracy
    config_names = ("k",)

    def __init__(self, k: int = 5, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name, dtype)
        self.k = int(check_number("k", k, minimum=1))
        self._labels = self.labels_class()

    def places(self, y_true: Array, shape: tuple[int, ...]) -> Array:
        """Return the labels' places, shape (...), for predictions of this shape, (..., K)."""
        return self._labels.true_places(y_true, shape)

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        places = self.places(y_true, y_pred.shape)
        hits: Array = self._kept("hits", y_pred.shape[:-1], np.bool_)
        for rows in blocks_of_rows(y_pred.shape):
            hits[rows] = self._hits(places[rows].astype(np.intp)[..., None], y_pred[rows])
        return hits

    def _hits(self, places: Array, y_pred: Array) -> Array:
        own = np.take_along_axis(y_pred, places, axis=-1)
        before = np.arange(y_pred.shape[-1]) < places
        ahead = (y_pred > own) | ((y_pred == own) & before)
        hits: Array = (ahead.sum(axis=-1) < self.k) & np.isfinite(own[..., 0])
        return hits


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """Fraction of samples whose integer label is among the `k` largest predictions.

    Parameters
    ----------
    k, name, dtype
        See `TopKCategoricalAccuracy`.
    from_sorted_ids
        Predictions are classes, the likeliest first, instead of a number for each class: a label
        among the first `k` of them is a hit.
    """

    labels_class = SparseCategoricalAccuracy
    config_names = ("from_sorted_ids",)

    def __init__(
        self,
        k: int = 5,
        name: str | None = None,
        dtype: str | None = None,
        from_sorted_ids: bool = False,
    ) -> None:
        super().__init__(k, name, dtype)
        self.from_sorted_ids = bool(from_sorted_ids)

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        if not self.from_sorted_ids:
            return super().per_sample(y_true, y_pred)
        labels = self.places(y_true, y_pred.shape)[..., None]
        hits: Array = (y_pred[..., : self.k] == labels).any(axis=-1)
        return hits


def resolve_accuracy(y_true_shape: Sequence[int], output_shape: Sequence[int]) -> Metric:
    """Return the metric that ``"accuracy"`` means for these shapes, by Keras' rule.

    Parameters
    ----------
    y_true_shape, output_shape
        Shapes of targets and outputs; the batch size is not looked at where an axis follows it.

    Returns
    -------
    Metric
        Named ``"accuracy"``: `BinaryAccuracy` for outputs (..., 1); else
        `SparseCategoricalAccuracy` where the targets have fewer axes, or a last axis of length 1;
        else `CategoricalAccuracy`.
    """
    if output_shape[-1] == 1:
        return BinaryAccuracy("accuracy")
    if len(y_true_shape) < len(output_shape) or y_true_shape[-1] == 1:
        return SparseCategoricalAccuracy("accuracy")
    return CategoricalAccuracy("accuracy")
