"""Losses, their gradients, metrics and initializers against real Keras."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fusednn import initializers, losses, metrics

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")
from keras_gradients import values_and_gradient  # noqa: E402

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def draw(rng, kind, shape):
    if kind == "real":
        return (3 * rng.standard_normal(shape)).astype(np.float32)
    if kind == "fraction":
        return rng.uniform(0.05, 0.95, shape).astype(np.float32)
    if kind == "probability":
        y = rng.uniform(0.05, 0.95, shape)
        return (y / y.sum(axis=-1, keepdims=True)).astype(np.float32)
    if kind == "onehot":
        return np.eye(shape[-1], dtype=np.float32)[rng.integers(0, shape[-1], shape[:-1])]
    if kind == "bit":
        return rng.integers(0, 2, shape).astype(np.float32)
    return rng.integers(0, shape[-1], shape[:-1])


LOGITS = {"from_logits": True}
LOSSES = [
    ("MeanSquaredError", {}, "real", "real"),
    ("MeanSquaredError", {"reduction": "sum"}, "real", "real"),
    ("BinaryCrossentropy", {}, "bit", "fraction"),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, "bit", "fraction"),
    ("BinaryCrossentropy", LOGITS, "bit", "real"),
    ("BinaryCrossentropy", LOGITS | {"label_smoothing": 0.2}, "fraction", "real"),
    ("CategoricalCrossentropy", {}, "onehot", "probability"),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, "onehot", "fraction"),
    ("CategoricalCrossentropy", LOGITS, "onehot", "real"),
    ("CategoricalCrossentropy", LOGITS | {"label_smoothing": 0.1}, "onehot", "real"),
    ("SparseCategoricalCrossentropy", {}, "label", "probability"),
    ("SparseCategoricalCrossentropy", {}, "label", "fraction"),
    ("SparseCategoricalCrossentropy", LOGITS | {"reduction": "sum"}, "label", "real"),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}, "label", "fraction"),
    ("SparseCategoricalCrossentropy", LOGITS | {"ignore_class": 0}, "label", "real"),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1, "reduction": "sum"}, "label", "fraction"),
]


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 6)], ids=str)
@pytest.mark.parametrize(("name", "options", "of_targets", "of_predictions"), LOSSES)
def test_loss(rng, name, options, of_targets, of_predictions, shape):
    t, y = draw(rng, of_targets, shape), draw(rng, of_predictions, shape)
    mine = getattr(losses, name)(**options)
    peer = getattr(keras.losses, name)(**options)
    want, want_grad = values_and_gradient(lambda z: peer(t, z), y)
    value, grad = mine.value_and_gradient(t, y)
    np.testing.assert_allclose(value, want, **TOLERANCE)
    np.testing.assert_allclose(mine(t, y), want, **TOLERANCE)
    np.testing.assert_allclose(grad, want_grad, **TOLERANCE)
    config = {k: v for k, v in mine.get_config().items() if k in peer.get_config()}
    assert config == peer.get_config() | {"name": mine.name}


@pytest.mark.parametrize("shape", [(9, 5), (4, 3, 6)], ids=str)
@pytest.mark.parametrize("ignored", [-1, 255, 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_ignored_class(rng, shape, ignored, weighted, reduction):
    """As a loss and as a metric, over two batches; the second one has nothing else."""
    options = {"from_logits": True, "ignore_class": ignored}
    mine, peer = (
        library.SparseCategoricalCrossentropy(reduction=reduction, **options)
        for library in (losses, keras.losses)
    )
    means = [
        library.SparseCategoricalCrossentropy(**options) for library in (metrics, keras.metrics)
    ]
    for share in (0.4, 1.0):
        y = draw(rng, "real", shape)
        t = np.where(rng.random(shape[:-1]) < share, ignored, draw(rng, "label", shape))
        w = full = None
        if weighted:
            w = rng.random((shape[0], *[1] * (len(shape) - 2))).astype(np.float32)
            full = np.broadcast_to(w, shape[:-1]).copy()  # Keras on torch does not do it
        own = mine(t, y, sample_weight=w)
        np.testing.assert_allclose(own, float(peer(t, y, sample_weight=full)), **TOLERANCE)
        means[0].update_state(t, y, sample_weight=w)
        means[1].update_state(t, y, sample_weight=full)
        np.testing.assert_allclose(means[0].result(), float(means[1].result()), **TOLERANCE)


@pytest.mark.parametrize("name", ["CategoricalCrossentropy", "BinaryCrossentropy"])
def test_clipped_probabilities(name):
    """The numbers beyond the clip, and that the gradient stops there."""
    y = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], np.float32)
    t = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    mine, peer = getattr(losses, name)(), getattr(keras.losses, name)()
    want, want_grad = values_and_gradient(lambda z: peer(t, z), y)
    value, grad = mine.value_and_gradient(t, y)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_allclose(grad, want_grad, rtol=1e-5, atol=1e-6)


FUNCTIONS = [
    ("mean_squared_error", {}, "real", "real"),
    ("binary_crossentropy", {"label_smoothing": 0.1}, "bit", "fraction"),
    ("categorical_crossentropy", LOGITS, "onehot", "real"),
    ("sparse_categorical_crossentropy", LOGITS, "label", "real"),
]


@pytest.mark.parametrize(("name", "options", "of_targets", "of_predictions"), FUNCTIONS)
def test_loss_function(rng, name, options, of_targets, of_predictions):
    t, y = draw(rng, of_targets, (4, 3, 6)), draw(rng, of_predictions, (4, 3, 6))
    values = getattr(losses, name)(t, y, **options)
    want = numpy(getattr(keras.losses, name)(t, y, **options))
    assert values.shape == want.shape
    np.testing.assert_allclose(values, want, **TOLERANCE)


METRICS = [
    ("Accuracy", {}, "label", "label"),
    ("BinaryAccuracy", {}, "bit", "fraction"),
    ("BinaryAccuracy", {"threshold": 0.3}, "bit", "fraction"),
    ("CategoricalAccuracy", {}, "onehot", "real"),
    ("SparseCategoricalAccuracy", {}, "label", "real"),
    ("MeanSquaredError", {}, "real", "real"),
]


@pytest.mark.parametrize(("name", "options", "of_targets", "of_predictions"), METRICS)
def test_metric(rng, name, options, of_targets, of_predictions):
    mine = getattr(metrics, name)(**options)
    peer = getattr(keras.metrics, name)(**options)
    assert mine.name == peer.name
    for rows in (1, 7, 32):
        t, y = draw(rng, of_targets, (rows, 4)), draw(rng, of_predictions, (rows, 4))
        mine.update_state(t, y)
        peer.update_state(t, y)
        np.testing.assert_allclose(mine.result(), numpy(peer.result()), rtol=1e-6)
    mine.reset_state()
    peer.reset_state()
    assert mine.result() == float(numpy(peer.result())) == 0.0


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [((8,), (8, 1)), ((8, 1), (8, 1)), ((8,), (8, 4)), ((8, 1), (8, 4)), ((8, 4), (8, 4))],
)
def test_which_accuracy(labels, outputs):
    compile_utils = pytest.importorskip("keras.src.trainers.compile_utils")
    peer = compile_utils.get_metric("accuracy", np.zeros(labels), np.zeros(outputs))
    mine = metrics.resolve_accuracy(labels, outputs)
    assert type(mine).__name__ == type(peer).__name__
    assert mine.name == peer.name


INITIALIZERS = [
    ("GlorotNormal", {}),
    ("GlorotUniform", {}),
    ("HeNormal", {}),
    ("HeUniform", {}),
    ("LecunNormal", {}),
    ("LecunUniform", {}),
    ("RandomNormal", {}),
    ("RandomUniform", {}),
    ("TruncatedNormal", {}),
    ("VarianceScaling", {}),
    ("VarianceScaling", {"scale": 3.0, "mode": "fan_avg", "distribution": "untruncated_normal"}),
    ("VarianceScaling", {"scale": 0.5, "mode": "fan_out", "distribution": "uniform"}),
]


@pytest.mark.parametrize("shape", [(200, 600), (3, 3, 64, 128)], ids=str)
@pytest.mark.parametrize(("name", "options"), INITIALIZERS)
def test_initializer(name, options, shape):
    mine = getattr(initializers, name)(**options, seed=1)(shape)
    peer = numpy(getattr(keras.initializers, name)(**options, seed=1)(shape))
    n = mine.size
    # Six standard deviations of the difference of two sample variances, at kurtosis 3.
    assert mine.var() == pytest.approx(peer.var(), rel=6 * np.sqrt(4 / n))
    assert mine.mean() == pytest.approx(peer.mean(), abs=6 * peer.std() * np.sqrt(2 / n))
    if "ormal" not in name + str(options) or "runcated" in name:
        assert np.abs(mine).max() == pytest.approx(np.abs(peer).max(), rel=2e-3)
    quantiles = np.linspace(0.01, 0.99, 21)
    np.testing.assert_allclose(
        np.quantile(mine, quantiles), np.quantile(peer, quantiles), atol=0.05 * peer.std()
    )


def test_initializer_defaults():
    for name, options in INITIALIZERS:
        mine = getattr(initializers, name)(**options).get_config()
        peer = getattr(keras.initializers, name)(**options).get_config()
        assert mine == {k: v for k, v in peer.items() if k in mine}, name
        unknown = set(peer) - set(mine)
        assert unknown <= {"input_axes", "output_axes"}, name
