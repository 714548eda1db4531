"""The area under a curve of right and wrong decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_number
from fusednn.metrics.base import Array, element_weights
from fusednn.metrics.confusion import ConfusionMetric, share

#: Added to both ends of the thresholds, as in Keras.
_EPSILON = 1e-7

_CURVES = ("ROC", "PR", "PRGAIN")
_SUMMATIONS = ("interpolation", "minoring", "majoring")


class AUC(ConfusionMetric):
    """The area under the ROC curve, or under that of precision and recall, or of their gains.

    Counted at thresholds, as in Keras: scikit-learn's `roc_auc_score` has one at every prediction.
    Precision is interpolated as Davis and Goadrich (2006) do. The gains are those of Flach and
    Kull (2015), ``1 - P / N * FN / TP`` and ``1 - P / N * FP / TP``.

    Parameters
    ----------
    num_thresholds : int
        At least 2: so many, evenly spaced, those at both ends just outside of [0, 1].
    curve : {"ROC", "PR", "PRGAIN"}
    summation_method : {"interpolation", "minoring", "majoring"}
        Height of each piece of the curve: between those of its two ends (trapezoids, but for
        "PR"), the lower of them, or the higher.
    name, dtype
        See `Metric`.
    thresholds : sequence of float, optional
        In [0, 1], to have these instead; the two ends are added.
    multi_label : bool
        Predictions have shape ``(batch, labels)``: the mean of the labels' areas, instead of the
        area of all predictions together.
    num_labels : int, optional
        Number of labels, only with `multi_label`; else that of the first batch.
    label_weights : sequence of float, optional
        Not negative, one for each place of the last axis: weights of the labels' areas with
        `multi_label`, else of predictions.
    from_logits : bool
        Predictions are logits, of which the sigmoid is taken; else they must be in [0, 1].

    Raises
    ------
    ValueError
        By `update_state`, too: the predictions do not have the shape that an option asks for.
    """

    _direction = "up"

    config_names = (
        "num_thresholds",
        "curve",
        "summation_method",
        "multi_label",
        "num_labels",
        "label_weights",
        "from_logits",
    )

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: str | None = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: ArrayLike | None = None,
        from_logits: bool = False,
    ) -> None:
        self.num_thresholds = int(check_number("num_thresholds", num_thresholds, minimum=2))
        self.curve = _one_of("curve", curve, _CURVES)
        self.summation_method = _one_of("summation_method", summation_method, _SUMMATIONS)
        self.multi_label = bool(multi_label)
        if num_labels is not None:
            if not self.multi_label:
                raise ValueError(
                    "`num_labels` must be None unless `multi_label` is True. "
                    f"Received: num_labels={num_labels!r}"
                )
            num_labels = int(check_number("num_labels", num_labels, minimum=1))
        self.num_labels = num_labels
        self.label_weights = _label_weights(label_weights, num_labels)
        self.from_logits = bool(from_logits)
        super().__init__(name=name or "auc", dtype=dtype)
        if thresholds is None:
            last = self.num_thresholds - 1
            inner = np.arange(1, last) / last
        else:
            checked = [check_number("thresholds", t, minimum=0, maximum=1) for t in thresholds]
            inner = np.sort(np.array(checked, np.float64))
            self.num_thresholds = len(inner) + 2
        self._given = thresholds is not None
        self._limits = np.array([-_EPSILON, *inner, 1 + _EPSILON])
        self.thresholds = self._limits.tolist()
        self.reset_state()

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in one batch: ``update_state(y_true, y_pred)``; see `ConfusionMetric`."""
        if len(values) != 2:
            super().update_state(*values, sample_weight=sample_weight)
        y_pred = np.asarray(values[1])
        shape = y_pred.shape
        if self.multi_label:
            labels = self.num_labels
            if self._positives.ndim == 2:
                labels = self._positives.shape[1]
            elif self.label_weights is not None:
                labels = len(self.label_weights)
            if len(shape) != 2 or shape[1] != (labels or shape[1]):
                raise ValueError(
                    f"`y_pred` must have shape (batch, {labels or 'labels'}) for an AUC with "
                    f"`multi_label`. Received: shape {shape}"
                )
        elif self.label_weights is not None:
            if shape[-1:] != (len(self.label_weights),):
                raise ValueError(
                    f"`y_pred` must have {len(self.label_weights)} places in its last axis, one "
                    f"for each of `label_weights`. Received: shape {shape}"
                )
            sample_weight = element_weights(sample_weight, shape) * np.array(self.label_weights)
        if self.from_logits:
            with np.errstate(over="ignore"):
                y_pred = 1 / (1 + np.exp(-y_pred.astype(np.float64)))
        super().update_state(values[0], y_pred, sample_weight=sample_weight)

    def of_counts(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """See `ConfusionMetric.of_counts`: one number."""
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = _under_precision(tp, fp, fn)
        else:
            x, y = self._curve(tp, fp, tn, fn)
            if self.summation_method == "interpolation":
                heights = (y[:-1] + y[1:]) / 2
            elif self.summation_method == "minoring":
                heights = np.minimum(y[:-1], y[1:])
            else:
                heights = np.maximum(y[:-1], y[1:])
            areas = ((x[:-1] - x[1:]) * heights).sum(axis=0)
        if areas.ndim:
            given = self.label_weights
            weights = np.ones(len(areas)) if given is None else np.array(given)
            areas = share(areas.dot(weights), np.asarray(weights.sum()))
        return np.array([areas])

    def _curve(self, tp: Array, fp: Array, tn: Array, fn: Array) -> tuple[Array, Array]:
        """Return abscissas, which fall from threshold to threshold, and ordinates."""
        if self.curve == "ROC":
            return share(fp, fp + tn), share(tp, tp + fn)
        if self.curve == "PR":
            return share(tp, tp + fn), share(tp, tp + fp)
        odds = share(tp + fn, tn + fp)
        found = tp != 0
        # Where nothing is found both gains are minus infinity: the first is kept at 0 or above, as
        # everywhere, and the second is set to 1.
        recall_gain = np.where(found, np.maximum(1 - odds * share(fn, tp), 0), 0)
        return recall_gain, np.where(found, 1 - odds * share(fp, tp), 1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = super().get_config()
        del config["thresholds"]
        return config | ({"thresholds": self._limits[1:-1].tolist()} if self._given else {})


def _under_precision(tp: Array, fp: Array, fn: Array) -> Array:
    found = tp + fp
    slope = share(tp[:-1] - tp[1:], np.maximum(found[:-1] - found[1:], 0))
    intercept = tp[1:] - slope * found[1:]
    both = (found[:-1] > 0) & (found[1:] > 0)
    ratio = np.where(both, share(found[:-1], found[1:]), 1)
    parts = slope * (tp[:-1] - tp[1:] + intercept * np.log(ratio))
    areas: Array = share(parts, (tp + fn)[1:]).sum(axis=0)
    return areas


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if isinstance(value, str) and value.lower() == choice.lower():
            return choice
    raise ValueError(
        f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}"
    )


def _label_weights(given: ArrayLike | None, num_labels: int | None) -> list[float] | None:
    if given is None:
        return None
    weights = np.asarray(given, np.float64)
    if weights.ndim != 1 or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(
            "`label_weights` must be numbers of at least 0, one for each label. "
            f"Received: label_weights={given!r:.200}"
        )
    if num_labels is not None and len(weights) != num_labels:
        raise ValueError(
            f"`label_weights` must hold one weight for each of {num_labels} labels. "
            f"Received: {len(weights)} weights"
        )
    made: list[float] = weights.tolist()
    return made
