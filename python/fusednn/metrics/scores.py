"""Scores of the columns of predictions: F scores of classes, R2 of regressions."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_count, check_number
from fusednn.losses.scratch import blocks_of_rows
from fusednn.metrics.base import Array, Metric, aligned, element_weights

_EPSILON = 1e-7
_AVERAGES = (None, "micro", "macro", "weighted")
_AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")


class ColumnMetric(Metric):
    """Base of metrics that keep sums for each column of predictions of shape (batch, columns)."""

    #: Names of the sums.
    sums: ClassVar[tuple[str, ...]]
    _direction = "up"

    def batch_sums(self, y_true: Array, y_pred: Array, weights: Array) -> list[Array]:
        """Return what some rows, float64, add to each of `sums`, shape (columns,)."""
        raise NotImplementedError(f"{type(self).__name__} must define `batch_sums`.")

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in one batch: ``update_state(y_true, y_pred)``.

        Raises
        ------
        ValueError
            The shapes differ, or are not (batch, columns) with the columns of the batches before.
        """
        if len(values) != 2:
            raise TypeError(
                f"`update_state` of {type(self).__name__} takes `y_true` and `y_pred`. "
                f"Received: {len(values)} arguments"
            )
        y_pred = np.asarray(values[1])
        y_true = aligned(np.asarray(values[0]), y_pred)
        if y_pred.ndim != 2 and self.sums[0] == "true_positives":
            raise ValueError(
                f"`y_pred` must have shape (batch, classes) for {type(self).__name__}. "
                f"Received: shape {y_pred.shape}"
            )
        if y_pred.ndim == 1:
            y_true, y_pred = y_true[:, None], y_pred[:, None]
        weights = element_weights(sample_weight, y_pred.shape)
        kept = getattr(self, self.sums[0])
        if np.ndim(kept) and np.shape(kept) != y_pred.shape[1:]:
            raise ValueError(
                f"`y_pred` must have the shape (batch, *{np.shape(kept)}) of the batches before. "
                f"Received: shape {y_pred.shape}"
            )
        for rows in blocks_of_rows(y_pred.shape):
            part = (array[rows].astype(np.float64) for array in (y_true, y_pred, weights))
            for name, value in zip(self.sums, self.batch_sums(*part), strict=True):
                setattr(self, name, getattr(self, name) + value)

    def reset_state(self) -> None:
        """See `Metric.reset_state`."""
        for name in self.sums:
            setattr(self, name, np.zeros(()))


class FBetaScore(ColumnMetric):
    """``(1 + beta**2) * P * R / (beta**2 * P + R)`` of precision P and recall R of each class.

    Targets are one-hot or several hot, of the shape (batch, classes) of the predictions.

    Parameters
    ----------
    average : {None, "micro", "macro", "weighted"}
        None: `result` is an array, one number for each class, and so is what logs and `evaluate`
        hold. "micro": of all classes' counts together; "macro": the mean of the classes;
        "weighted": their mean by the number of targets.
    beta : float
        > 0: how much more recall counts than precision.
    threshold : float, optional
        In (0, 1]: predictions above it are positive. None: the largest one of each sample is.
    name, dtype
        See `Metric`.

    Notes
    -----
    As in Keras 1e-7 is added to each divisor, so that a class without targets and predictions has
    the score 0.
    """

    config_names = ("average", "beta", "threshold")
    sums = ("true_positives", "false_positives", "false_negatives", "targets")

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(dtype, name or "fbeta_score")
        if average not in _AVERAGES:
            raise ValueError(
                f"`average` must be one of {', '.join(map(str, _AVERAGES))}. "
                f"Received: average={average!r}"
            )
        self.average = average
        self.beta = check_number("beta", beta, above=0)
        self.threshold = (
            None if threshold is None else check_number("threshold", threshold, above=0, maximum=1)
        )
        self.true_positives: Array
        self.false_positives: Array
        self.false_negatives: Array
        self.targets: Array
        self.reset_state()

    def batch_sums(self, y_true: Array, y_pred: Array, weights: Array) -> list[Array]:
        """See `ColumnMetric.batch_sums`."""
        if self.threshold is None:
            highest = y_pred.max(axis=-1, keepdims=True, initial=-np.inf)
            positive = (y_pred >= highest) & (np.abs(y_pred) > 1e-9)
        else:
            positive = y_pred > self.threshold
        found = positive.astype(np.float64)
        products = (found * y_true, found * (1 - y_true), (1 - found) * y_true, y_true)
        return [(product * weights).sum(axis=0) for product in products]

    def result(self) -> Any:
        """Return the score, or with `average` None that of each class."""
        tp, fp, fn = self.true_positives, self.false_positives, self.false_negatives
        if self.average == "micro":
            tp, fp, fn = tp.sum(), fp.sum(), fn.sum()
        precision = tp / (tp + fp + _EPSILON)
        recall = tp / (tp + fn + _EPSILON)
        square = self.beta**2
        score = (1 + square) * precision * recall / (square * precision + recall + _EPSILON)
        if self.average is None:
            return score
        if self.average == "weighted":
            return float((score * self.targets).sum() / (self.targets.sum() + _EPSILON))
        return float(np.mean(score))


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall of each class: `FBetaScore` with ``beta=1``.

    Parameters
    ----------
    average, threshold, name, dtype
        See `FBetaScore`.
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name or "f1_score", dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = super().get_config()
        del config["beta"]
        return config


class R2Score(ColumnMetric):
    """``1 - sum((t - p)**2) / sum((t - mean(t))**2)``, of each column and then of all.

    1 for perfect predictions, 0 for the mean of the targets; without a limit below. Where a
    column's targets are all alike it is 0.

    Parameters
    ----------
    class_aggregation : {"uniform_average", "variance_weighted_average", None}
        The mean of the columns, that by their variances, or an array of them.
    num_regressors : int
        p > 0: the score of n samples is adjusted, ``1 - (1 - R2) * (n - 1) / (n - p - 1)``.
    name, dtype
        See `Metric`.
    """

    config_names = ("class_aggregation", "num_regressors")
    sums = ("sum", "squared_sum", "total_mse", "count", "num_samples")

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(dtype, name or "r2_score")
        if class_aggregation not in _AGGREGATIONS:
            raise ValueError(
                f"`class_aggregation` must be one of {', '.join(map(str, _AGGREGATIONS))}. "
                f"Received: class_aggregation={class_aggregation!r}"
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = check_count("num_regressors", num_regressors, minimum=0)
        self.sum: Array
        self.squared_sum: Array
        self.total_mse: Array
        self.count: Array
        self.num_samples: Array
        self.reset_state()

    def batch_sums(self, y_true: Array, y_pred: Array, weights: Array) -> list[Array]:
        """See `ColumnMetric.batch_sums`."""
        weighted = y_true * weights
        errors = (y_true - y_pred) ** 2 * weights
        parts = (weighted, y_true * weighted, errors, weights)
        return [*(part.sum(axis=0) for part in parts), np.asarray(float(y_true.size))]

    def result(self) -> Any:
        """Return the score; NaN where nothing was counted."""
        with np.errstate(divide="ignore", invalid="ignore"):
            total = self.squared_sum - self.sum * (self.sum / self.count)
            scores = 1 - self.total_mse / total
            scores = np.where(np.isinf(scores), 0.0, scores)
            if self.class_aggregation == "uniform_average":
                scores = scores.mean()
            elif self.class_aggregation == "variance_weighted_average":
                scores = (total * scores).sum() / total.sum()
        samples, regressors = float(self.num_samples), self.num_regressors
        if regressors and regressors >= samples - 1:
            warnings.warn(
                f"There are {samples:g} values, too few to adjust R2 for {regressors} regressors: "
                "it is not adjusted.",
                stacklevel=2,
            )
        elif regressors:
            scores = 1 - (1 - scores) * (samples - 1) / (samples - regressors - 1)
        return scores if self.class_aggregation is None else float(scores)
