"""Counts of right and wrong decisions at thresholds, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_count, check_number
from fusednn.losses.scratch import blocks_of_rows
from fusednn.metrics.base import Array, Metric, aligned, element_weights

#: What predictions that are not among the largest become: less than all thresholds.
_LEFT_OUT = -1.0


class ConfusionMetric(Metric):
    """Base of metrics of the counts of true and false positives and negatives.

    A prediction is positive where it is larger than a threshold; targets are 0 or 1. A new metric
    is a subclass with `of_counts`.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; 0.5 if not given. With several, `result` is an array.
    name, dtype
        See `Metric`.
    """

    #: Whether every place of the last axis is counted for itself.
    multi_label: bool = False

    #: Only this index of the last axis counts.
    class_id: int | None = None
    #: Only the so many largest of the last axis may be positive.
    top_k: int | None = None

    config_names: ClassVar[tuple[str, ...]] = ("thresholds",)

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(dtype, name)
        self.thresholds = thresholds
        single = thresholds is None or isinstance(thresholds, (int, float))
        given = [0.5 if thresholds is None else thresholds] if single else list(thresholds)  # type: ignore[arg-type]
        self._single = single
        self._limits = np.array(
            [check_number("thresholds", t, minimum=0, maximum=1) for t in given]
        )
        self._positives: Array
        self._negatives: Array
        self.reset_state()

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """Return the metric at each threshold, from the four counts at each."""
        raise NotImplementedError(f"{type(self).__name__} must define `of_counts`.")

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in one batch: ``update_state(y_true, y_pred)``.

        Raises
        ------
        ValueError
            The shapes differ, or predictions are not in [0, 1].
        """
        if len(values) != 2:
            raise TypeError(
                f"`update_state` of {type(self).__name__} takes `y_true` and `y_pred`. "
                f"Received: {len(values)} arguments"
            )
        y_pred = np.asarray(values[1])
        y_true = aligned(np.asarray(values[0]), y_pred)
        if y_pred.size and not (y_pred.min() >= 0 and y_pred.max() <= 1):
            raise ValueError(
                f"`y_pred` must be in [0, 1] for {type(self).__name__}. "
                f"Received: values from {y_pred.min()} to {y_pred.max()}"
            )
        weights = element_weights(sample_weight, y_pred.shape)
        for rows in blocks_of_rows(y_pred.shape):
            self._count(y_true[rows], y_pred[rows].astype(np.float64), weights[rows])

    def _count(self, y_true: Array, y_pred: Array, weights: Array) -> None:
        """Add some rows of a batch; predictions are float64."""
        if self.top_k is not None:
            y_pred = _of_largest(y_pred, self.top_k)
        if self.class_id is not None:
            y_pred, y_true = y_pred[..., self.class_id], y_true[..., self.class_id]
            weights = weights[..., self.class_id]
        # By the number of thresholds below each prediction.
        below = np.searchsorted(self._limits[self._order], y_pred.reshape(-1), side="left")
        positive = y_true.reshape(-1) != 0
        flat = weights.reshape(-1)
        shape: tuple[int, ...] = (len(self._limits) + 1,)
        if self.multi_label:
            labels = y_pred.shape[-1]
            shape = (*shape, labels)
            below = below * labels + np.tile(np.arange(labels), len(y_pred))
        new: list[Array] = [
            np.bincount(below[chosen], flat[chosen], minlength=math.prod(shape)).reshape(shape)
            for chosen in (positive, ~positive)
        ]
        # The first batch says how many labels there are.
        kept = self._positives.shape == shape
        self._positives = self._positives + new[0] if kept else new[0]
        self._negatives = self._negatives + new[1] if kept else new[1]

    def counts(self) -> tuple[Array, Array, Array, Array]:
        """Return the true and false positives and negatives, each at every threshold."""
        result = []
        for counts in (self._positives, self._negatives):
            # Above the i-th threshold in order is what has more than i below it.
            above, below = np.empty_like(counts[1:]), np.empty_like(counts[1:])
            above[self._order] = counts[::-1].cumsum(axis=0)[::-1][1:]
            below[self._order] = counts.cumsum(axis=0)[:-1]
            result.append((above, below))
        (tp, fn), (fp, tn) = result
        return tp, fp, tn, fn

    def result(self) -> Any:
        """Return the metric, an array where several thresholds were given."""
        values = self.of_counts(*self.counts())
        return float(values[0]) if self._single else values

    def reset_state(self) -> None:
        """See `Metric.reset_state`."""
        self._order: Array = np.argsort(self._limits, kind="stable")
        self._positives = np.zeros(len(self._limits) + 1)
        self._negatives = np.zeros(len(self._limits) + 1)


class TruePositives(ConfusionMetric):
    """Number of targets 1 that were predicted as 1."""

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return tp


class FalsePositives(ConfusionMetric):
    """Number of targets 0 that were predicted as 1."""

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return fp


class TrueNegatives(ConfusionMetric):
    """Number of targets 0 that were predicted as 0."""

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return tn


class FalseNegatives(ConfusionMetric):
    """Number of targets 1 that were predicted as 0."""

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return fn


class OfClasses(ConfusionMetric):
    """Base of metrics that may be of one class, or of the largest predictions alone.

    Parameters
    ----------
    thresholds, name, dtype
        See `ConfusionMetric`.
    top_k : int, optional
        A prediction is positive only where it is among the `top_k` largest of the last axis (of
        equal ones those with lower places count as larger); and, where `thresholds` are given,
        larger than these, too.
    class_id : int, optional
        Only this index of the last axis counts.
    """

    config_names = ("top_k", "class_id")

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(thresholds, name, dtype)
        self.top_k = None if top_k is None else check_count("top_k", top_k)
        self.class_id = class_id
        if self.top_k is not None and thresholds is None:
            self._limits = np.array([_LEFT_OUT / 2])  # all those of the largest are above


class Precision(OfClasses):
    """The fraction of positive predictions that are right; 0 where there are none.

    Parameters
    ----------
    thresholds, top_k, class_id, name, dtype
        See `OfClasses`.
    """

    _direction = "up"

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return share(tp, tp + fp)


class Recall(OfClasses):
    """The fraction of targets 1 that were found; 0 where there are none.

    Parameters
    ----------
    thresholds, top_k, class_id, name, dtype
        See `OfClasses`.
    """

    _direction = "up"

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return share(tp, tp + fn)


def _of_largest(y_pred: Array, count: int) -> Array:
    """Return predictions with all but the `count` largest of each row below every threshold."""
    order = np.argsort(-y_pred, axis=-1, kind="stable")[..., :count]
    largest = np.full_like(y_pred, _LEFT_OUT)
    np.put_along_axis(largest, order, np.take_along_axis(y_pred, order, axis=-1), axis=-1)
    return largest


def share(part: Array, whole: Array) -> Array:
    """Return ``part / whole``, and 0 where `whole` is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole != 0)
