"""The metrics: values, accumulation over batches, shapes, names."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from fusednn import metrics
from fusednn.metrics import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    Mean,
    MeanSquaredError,
    SparseCategoricalAccuracy,
)


def test_accuracy_counts_equal_values():
    assert Accuracy()([1, 2, 3, 4], [0, 2, 3, 4]) == 0.75
    assert Accuracy()([[1], [2], [3], [4]], [0, 2, 3, 4]) == 0.75


def test_binary_accuracy_compares_with_the_threshold():
    y = np.array([[0.98], [0.5], [0.0], [0.6]], np.float32)
    assert BinaryAccuracy()([1, 1, 0, 0], y) == 0.5  # 0.5 itself counts as class 0
    assert BinaryAccuracy()([[1], [1], [0], [0]], y) == 0.5
    assert BinaryAccuracy(threshold=0.7)([1, 0, 0, 0], y) == 1.0
    assert BinaryAccuracy(threshold=0)([1, 0], [[3.0], [-2.0]]) == 1.0


def test_binary_accuracy_of_several_labels_counts_each():
    assert BinaryAccuracy()([[1, 0], [1, 1]], [[0.9, 0.2], [0.1, 0.2]]) == 0.5


def test_categorical_accuracy_compares_places():
    y = [[0.1, 0.9, 0.8], [0.05, 0.95, 0]]
    assert CategoricalAccuracy()([[0, 0, 1], [0, 1, 0]], y) == 0.5


@pytest.mark.parametrize("labels", [[2, 1], [[2], [1]], [2.0, 1.0], np.array([2, 1], np.uint8)])
def test_sparse_categorical_accuracy_takes_labels(labels):
    y = [[0.1, 0.6, 0.3], [0.05, 0.95, 0]]
    assert SparseCategoricalAccuracy()(labels, y) == 0.5


def test_sequences_of_classes():
    y = np.eye(4)[np.array([[0, 1, 2], [3, 3, 3]])]
    assert SparseCategoricalAccuracy()([[0, 1, 0], [3, 3, 0]], y) == pytest.approx(4 / 6)
    assert SparseCategoricalAccuracy()([[[0], [1], [0]], [[3], [3], [0]]], y) == pytest.approx(
        4 / 6
    )
    assert CategoricalAccuracy()(y, y) == 1.0


def test_mean_squared_error(rng):
    t, y = rng.standard_normal((2, 7, 3))
    assert MeanSquaredError()(t, y) == pytest.approx(((y - t) ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize("sizes", [(1, 7, 97), (5, 0, 3)], ids=str)
def test_batches_add_up_to_the_whole(rng, sizes):
    total = sum(sizes)
    labels, y = rng.integers(0, 3, total), rng.standard_normal((total, 3))
    onehot = np.eye(3)[labels]
    pairs = [
        (SparseCategoricalAccuracy, labels, y),
        (CategoricalAccuracy, onehot, y),
        (BinaryAccuracy, onehot, y),
        (MeanSquaredError, onehot, y),
        (Accuracy, labels, y.argmax(axis=1)),
    ]
    edges = np.cumsum((0, *sizes))
    for cls, t, p in pairs:
        metric = cls()
        for start, stop in pairwise(edges):
            metric.update_state(t[start:stop], p[start:stop])
        whole = cls()(t, p)
        assert whole > 0
        assert metric.result() == pytest.approx(whole, rel=1e-12)
        metric.reset_state()
        assert metric.result() == 0.0
        assert metric(t[:2], p[:2]) == cls()(t[:2], p[:2])


def test_known_places_give_the_same_accuracy(rng):
    y = rng.standard_normal((7, 3, 5))
    labels = rng.integers(0, 5, (7, 3))
    y[0, 0] = 1.0  # the first of equal ones counts
    for cls, t in (
        (SparseCategoricalAccuracy, labels),
        (SparseCategoricalAccuracy, labels[..., None]),
        (CategoricalAccuracy, np.eye(5)[labels]),
    ):
        metric = cls()
        metric.update_places(t, y.argmax(axis=-1), 5)
        assert (metric.total, metric.count) == (7 * cls()(t, y), 7)
        with pytest.raises(ValueError, match="`y_true` must"):
            metric.update_places(t[:6], y.argmax(axis=-1), 5)
        assert metric.count == 7


def test_mean():
    mean = Mean()
    assert mean.result() == 0.0
    mean.update_state([1, 3, 5, 7])
    assert mean.result() == 4.0
    mean.update_state(9.0)
    assert mean.result() == 5.0
    mean.update_state([])
    assert mean.result() == 5.0
    # Each sample is the mean of its values, as in Keras.
    assert Mean()([[1, 2], [3, 6]]) == 3.0


def test_mean_of_many_small_values_stays_exact():
    mean = Mean()
    for _ in range(100):
        mean.update_state(np.full(100_000, 0.1, np.float32))
    assert mean.result() == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "outputs", "cls"),
    [
        ((32,), (32, 1), BinaryAccuracy),
        ((32, 1), (32, 1), BinaryAccuracy),
        ((32,), (32, 10), SparseCategoricalAccuracy),
        ((32, 1), (32, 10), SparseCategoricalAccuracy),
        ((32, 10), (32, 10), CategoricalAccuracy),
        ((32, 5), (32, 5, 10), SparseCategoricalAccuracy),
        ((32, 5, 10), (32, 5, 10), CategoricalAccuracy),
    ],
)
def test_resolve_accuracy(labels, outputs, cls):
    metric = metrics.resolve_accuracy(labels, outputs)
    assert type(metric) is cls
    assert metric.name == "accuracy"


def test_bad_shapes_change_nothing():
    for metric, t, y, message in [
        (Accuracy(), [1, 2], [1, 2, 3], r"shape of `y_pred`, \(3,\). Received: .* \(2,\)"),
        (BinaryAccuracy(), [1, 0, 1], [[0.5], [0.5]], r"`y_pred`, \(2, 1\). Received: .* \(3,\)"),
        (CategoricalAccuracy(), [0, 1], np.eye(2), r"must be one-hot, .* Received: .* \(2,\)"),
        (SparseCategoricalAccuracy(), np.eye(2), np.eye(2), r"one integer label per sample"),
        (MeanSquaredError(), [1.0], np.eye(2), r"`y_pred`, \(2, 2\). Received: .* \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric.update_state(t, y)
        assert (metric.total, metric.count) == (0.0, 0)
    with pytest.raises(TypeError, match=r"takes `y_true` and `y_pred`. Received: 1 arguments"):
        Accuracy().update_state([1])
    with pytest.raises(TypeError, match=r"takes one argument, `values`. Received: 2 arguments"):
        Mean().update_state([1], [2])
    with pytest.raises(ValueError, match="`threshold` must be a finite number"):
        BinaryAccuracy(threshold=float("nan"))


@pytest.mark.parametrize(
    ("identifier", "cls", "name"),
    [
        ("accuracy", Accuracy, "accuracy"),
        ("binary_accuracy", BinaryAccuracy, "binary_accuracy"),
        ("BinaryAccuracy", BinaryAccuracy, "binary_accuracy"),
        ("sparse_categorical_accuracy", SparseCategoricalAccuracy, "sparse_categorical_accuracy"),
        ("mse", MeanSquaredError, "mean_squared_error"),
        (CategoricalAccuracy, CategoricalAccuracy, "categorical_accuracy"),
    ],
)
def test_get(identifier, cls, name):
    metric = metrics.get(identifier)
    assert type(metric) is cls
    assert metric.name == name


def test_get_keeps_an_object_and_refuses_the_rest():
    metric = Mean("cost")
    assert metrics.get(metric) is metric
    assert metric.name == "cost"
    for wrong in ("acuracy", None, 3):
        with pytest.raises(ValueError, match="`metric` must be a metric object, class or"):
            metrics.get(wrong)
    entry = json.loads(json.dumps(metrics.serialize(BinaryAccuracy("b", threshold=0.25))))
    again = metrics.get(entry)
    assert again.get_config() == {"name": "b", "threshold": 0.25}
