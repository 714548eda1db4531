"""Weights of samples and classes: in losses, gradients, metrics, and through fit and evaluate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusednn import losses, utils
from fusednn.layers import Dense, Input
from fusednn.models import Sequential
from fusednn.optimizers import SGD
from gradient_check import normal

RNG = np.random.default_rng(0)
X = normal(40, 5).astype(np.float32)
LABELS = RNG.integers(0, 3, 40)
WEIGHTS = RNG.random(40)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("name", ["MeanSquaredError", "Huber", "CategoricalCrossentropy"])
def test_weighted_losses_and_gradients(name: str, reduction: str) -> None:
    t, z = np.eye(3)[LABELS], normal(40, 3, seed=1)
    plain = getattr(losses, name)(reduction="sum")
    loss = getattr(losses, name)(reduction=reduction)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    divisor = {"sum": 1, "sum_over_batch_size": 40}.get(reduction, WEIGHTS.sum())
    value, gradient = loss.value_and_gradient(t, p, sample_weight=WEIGHTS)
    assert value == pytest.approx((plain.call(t, p) * WEIGHTS).sum() / divisor)
    assert value == loss(t, p, sample_weight=WEIGHTS[:, None])
    _, unweighted = plain.value_and_gradient(t, p)
    np.testing.assert_allclose(gradient, unweighted * WEIGHTS[:, None] / divisor, rtol=1e-10)
    # One weight for each sample of several rows.
    deep = loss(t.reshape(4, 10, 3), p.reshape(4, 10, 3), sample_weight=WEIGHTS[:4])
    repeated = loss(t, p, sample_weight=np.repeat(WEIGHTS[:4], 10))
    assert deep == pytest.approx(repeated)
    with pytest.raises(ValueError, match="one weight for each of 40 samples"):
        loss(t, p, sample_weight=np.ones(39))


def classifier(**options: Any) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((5,)), Dense(4, "tanh"), Dense(3, "softmax")])
    model.compile(SGD(0.1), "sparse_categorical_crossentropy", **options)
    return model


def weights_after(**how: Any) -> list[np.ndarray]:
    model = classifier()
    model.fit(X, LABELS, epochs=2, batch_size=7, verbose=0, **how)
    return model.get_weights()


def test_weights_go_with_their_samples_through_shuffling() -> None:
    by_class = {0: 2.0, 2: 0.25}
    sample_weight = np.array([by_class.get(int(label), 1.0) for label in LABELS])
    for a, b in zip(
        weights_after(class_weight=by_class),
        weights_after(sample_weight=sample_weight),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(weights_after(), weights_after(sample_weight=np.ones(40)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(weights_after()[0], weights_after(class_weight=by_class)[0])


def test_a_weight_of_two_is_the_sample_twice() -> None:
    loss = losses.SparseCategoricalCrossentropy(reduction="sum")
    models = [classifier() for _ in range(2)]
    for model in models:
        model.compile(SGD(0.1), loss)
    models[0].train_on_batch(X[:3], LABELS[:3], sample_weight=[1, 2, 0])
    models[1].train_on_batch(X[[0, 1, 1]], LABELS[[0, 1, 1]])
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_metrics_with_and_without_weights() -> None:
    model = classifier(metrics=["accuracy"], weighted_metrics=["sparse_categorical_accuracy"])
    hits = model.predict(X, verbose=0).argmax(axis=1) == LABELS
    results = model.evaluate(X, LABELS, sample_weight=WEIGHTS, verbose=0, return_dict=True)
    assert results["accuracy"] == pytest.approx(hits.mean())
    assert results["sparse_categorical_accuracy"] == pytest.approx(
        np.average(hits, weights=WEIGHTS), rel=1e-6
    )
    losses_of_samples = losses.SparseCategoricalCrossentropy().call(LABELS, model(X))
    assert results["loss"] == pytest.approx((losses_of_samples * WEIGHTS).mean(), rel=1e-5)
    assert model.test_on_batch(X, LABELS, sample_weight=WEIGHTS, return_dict=True) == pytest.approx(
        results
    )


def test_validation_has_weights_of_its_own() -> None:
    model = classifier()
    history = model.fit(
        X, LABELS, verbose=0, validation_data=(X, LABELS, WEIGHTS), sample_weight=np.zeros(40)
    ).history
    assert history["loss"] == [0]
    assert history["val_loss"] == [
        pytest.approx(model.evaluate(X, LABELS, sample_weight=WEIGHTS, verbose=0))
    ]
    split = model.fit(X, LABELS, verbose=0, validation_split=0.25, sample_weight=WEIGHTS).history
    tail = model.evaluate(X[30:], LABELS[30:], sample_weight=WEIGHTS[30:], verbose=0)
    assert split["val_loss"] == [pytest.approx(tail)]


def test_class_weights_of_one_hot_and_columns() -> None:
    by_class = {0: 2.0, 1: 0.5}
    expected = classifier().train_on_batch(X, LABELS, class_weight=by_class)
    column = classifier().train_on_batch(X, LABELS[:, None], class_weight=by_class)
    assert column == expected
    model = classifier()
    model.compile(SGD(0.1), "categorical_crossentropy")
    one_hot = model.train_on_batch(X, np.eye(3)[LABELS], class_weight=by_class)
    assert one_hot == pytest.approx(expected, rel=1e-6)


def test_steps_of_evaluate() -> None:
    model = classifier()
    first = model.evaluate(X[:20], LABELS[:20], batch_size=10, verbose=0)
    assert model.evaluate(X, LABELS, batch_size=10, steps=2, verbose=0) == pytest.approx(first)


BAD: list[tuple[Callable[[Sequential], object], type[Exception], str]] = [
    (
        lambda m: m.fit(X, LABELS, sample_weight=np.ones(39)),
        ValueError,
        r"`sample_weight` must hold one weight for each of 40 samples.*\(39,\)",
    ),
    (
        lambda m: m.fit(X, LABELS, sample_weight=WEIGHTS, class_weight={0: 1}),
        ValueError,
        "Only one of `sample_weight` and `class_weight`",
    ),
    (lambda m: m.fit(X, LABELS, sample_weight=-WEIGHTS), ValueError, "finite numbers >= 0"),
    (lambda m: m.fit(X, LABELS, sample_weight=["a"] * 40), TypeError, "`sample_weight` must hold"),
    (lambda m: m.fit(X, LABELS, class_weight=[1, 2]), TypeError, "`class_weight` must be a dict"),
    (
        lambda m: m.fit(X, LABELS, class_weight={1: -1}),
        ValueError,
        r"`class_weight\[1\]` must be a finite number >= 0",
    ),
    (
        lambda m: m.fit(X, LABELS, validation_data=(X, LABELS, WEIGHTS[:3])),
        ValueError,
        "`validation_sample_weight` must hold one weight",
    ),
    (
        lambda m: m.fit(X, LABELS, validation_data=(X,)),
        ValueError,
        r"`validation_data` must be a pair \(x, y\), or \(x, y, sample_weight\)",
    ),
    (
        lambda m: m.compile("sgd", "mse", weighted_metrics="mse"),
        TypeError,
        "`weighted_metrics` must be a list",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[m[:30] for *_, m in BAD])
def test_refusals(
    call: Callable[[Sequential], object], error: type[Exception], message: str
) -> None:
    model = classifier()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        call(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
