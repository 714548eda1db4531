"""Counts of right and wrong decisions at thresholds, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_number
from fusednn.metrics.base import Array, Metric, aligned, element_weights

#: Added to both ends of the thresholds of `AUC`, as in Keras.
_EPSILON = 1e-7


class ConfusionMetric(Metric):
    """Base of metrics of the counts of true and false positives and negatives.

    A prediction is positive where it is larger than a threshold; targets are 0 or 1. A new metric
    is a subclass with `of_counts`.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; 0.5 if not given. With several, `result` is an array.
    class_id : int, optional
        Only this index of the last axis counts.
    name
        See `Metric`.
    """

    config_names: ClassVar[tuple[str, ...]] = ("thresholds", "class_id")

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        class_id: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.thresholds = thresholds
        self.class_id = class_id
        single = thresholds is None or isinstance(thresholds, (int, float))
        given = [0.5 if thresholds is None else thresholds] if single else list(thresholds)  # type: ignore[arg-type]
        self._single = single
        self._limits = np.array(
            [check_number("thresholds", t, minimum=0, maximum=1) for t in given]
        )
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
        y_pred = np.asarray(values[1], np.float64)
        y_true = aligned(np.asarray(values[0]), y_pred)
        if y_pred.size and not (y_pred.min() >= 0 and y_pred.max() <= 1):
            raise ValueError(
                f"`y_pred` must be in [0, 1] for {type(self).__name__}. "
                f"Received: values from {y_pred.min()} to {y_pred.max()}"
            )
        weights = element_weights(sample_weight, y_pred.shape)
        if self.class_id is not None:
            y_pred, y_true = y_pred[..., self.class_id], y_true[..., self.class_id]
            weights = weights[..., self.class_id]
        # By the number of thresholds below each prediction.
        below = np.searchsorted(self._limits[self._order], y_pred.reshape(-1), side="left")
        positive = y_true.reshape(-1) != 0
        flat = weights.reshape(-1)
        size = len(self._limits) + 1
        for counts, chosen in ((self._positives, positive), (self._negatives, ~positive)):
            counts += np.bincount(below[chosen], flat[chosen], minlength=size)

    def counts(self) -> tuple[Array, Array, Array, Array]:
        """Return the true and false positives and negatives, each at every threshold."""
        result = []
        for counts in (self._positives, self._negatives):
            # Above the i-th threshold in order is what has more than i below it.
            above, below = np.empty(len(self._limits)), np.empty(len(self._limits))
            above[self._order] = counts[::-1].cumsum()[::-1][1:]
            below[self._order] = counts.cumsum()[:-1]
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
        self._positives: Array = np.zeros(len(self._limits) + 1)
        self._negatives: Array = np.zeros(len(self._limits) + 1)


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


class Precision(ConfusionMetric):
    """The fraction of positive predictions that are right; 0 where there are none.

    Parameters
    ----------
    thresholds, class_id, name
        See `ConfusionMetric`.
    """

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return _share(tp, tp + fp)


class Recall(ConfusionMetric):
    """The fraction of targets 1 that were found; 0 where there are none.

    Parameters
    ----------
    thresholds, class_id, name
        See `ConfusionMetric`.
    """

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`."""
        return _share(tp, tp + fn)


class AUC(ConfusionMetric):
    """The area under the ROC curve, or under that of precision and recall.

    Counted at evenly spaced thresholds, as in Keras: scikit-learn's `roc_auc_score` has a threshold
    at every prediction. Trapezoids under the ROC curve; precision is interpolated as Davis and
    Goadrich (2006) do.

    Parameters
    ----------
    num_thresholds : int
        At least 2.
    curve : {"ROC", "PR"}
    summation_method : {"interpolation"}
    name
        See `Metric`.
    """

    config_names = ("num_thresholds", "curve", "summation_method")

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
    ) -> None:
        self.num_thresholds = int(check_number("num_thresholds", num_thresholds, minimum=2))
        if curve not in ("ROC", "PR"):
            raise ValueError(f"`curve` must be 'ROC' or 'PR'. Received: curve={curve!r}")
        if summation_method != "interpolation":
            raise ValueError(
                "`summation_method` must be 'interpolation': others are not supported. "
                f"Received: summation_method={summation_method!r}"
            )
        self.curve = curve
        self.summation_method = summation_method
        super().__init__(name=name or "auc")
        last = self.num_thresholds - 1
        inner = np.arange(1, last) / last
        self._limits = np.array([-_EPSILON, *inner, 1 + _EPSILON])
        self.reset_state()

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`: one number."""
        recall = _share(tp, tp + fn)
        if self.curve == "ROC":
            rate = _share(fp, fp + tn)
            return np.array([((rate[:-1] - rate[1:]) * (recall[:-1] + recall[1:]) / 2).sum()])
        found = tp + fp
        slope = _share(tp[:-1] - tp[1:], np.maximum(found[:-1] - found[1:], 0))
        intercept = tp[1:] - slope * found[1:]
        both = (found[:-1] > 0) & (found[1:] > 0)
        ratio = np.where(both, _share(found[:-1], found[1:]), 1)
        parts = slope * (tp[:-1] - tp[1:] + intercept * np.log(ratio))
        return np.array([_share(parts, (tp + fn)[1:]).sum()])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = super().get_config()
        return {n: v for n, v in config.items() if n not in ("thresholds", "class_id")}


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole != 0)
