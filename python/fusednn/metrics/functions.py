"""Accuracies as functions: one number for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn.metrics.accuracy import (
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from fusednn.metrics.base import Array, MeanOverSamples


def binary_accuracy(y_true: ArrayLike, y_pred: ArrayLike, threshold: float = 0.5) -> Array:
    """Return the fraction of right decisions of each sample; see `BinaryAccuracy`."""
    hits = _of_samples(BinaryAccuracy(threshold=threshold), y_true, y_pred)
    means: Array = hits.mean(axis=-1, dtype=np.float32)
    return means


def categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return 1 for each sample that is right, else 0; see `CategoricalAccuracy`."""
    return _of_samples(CategoricalAccuracy(), y_true, y_pred)


def sparse_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return 1 for each sample that is right, else 0; see `SparseCategoricalAccuracy`."""
    return _of_samples(SparseCategoricalAccuracy(), y_true, y_pred)


def top_k_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike, k: int = 5) -> Array:
    """Return 1 for each sample that is right, else 0; see `TopKCategoricalAccuracy`."""
    return _of_samples(TopKCategoricalAccuracy(k), y_true, y_pred)


def sparse_top_k_categorical_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, k: int = 5, from_sorted_ids: bool = False
) -> Array:
    """Return 1 for each sample that is right, else 0; see `SparseTopKCategoricalAccuracy`."""
    metric = SparseTopKCategoricalAccuracy(k, from_sorted_ids=from_sorted_ids)
    return _of_samples(metric, y_true, y_pred)


def _of_samples(metric: MeanOverSamples, y_true: Any, y_pred: Any) -> Array:
    return metric.per_sample(np.asarray(y_true), np.asarray(y_pred)).astype(np.float32)
