"""Noise, reshaping and scaling layers; the shape of the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusednn.layers import (
    AlphaDropout,
    Dense,
    GaussianDropout,
    GaussianNoise,
    Input,
    InputLayer,
    Layer,
    Normalization,
    Rescaling,
    Reshape,
)
from fusednn.models import Sequential
from gradient_check import check_stack, normal


def test_gaussian_noise() -> None:
    x = np.full((200, 100), 3.0)
    y = GaussianNoise(0.5, seed=1)(x, training=True)
    assert y.mean() == pytest.approx(3, abs=0.01)
    assert y.std() == pytest.approx(0.5, rel=0.02)
    np.testing.assert_array_equal(GaussianNoise(0.5)(x), x)
    np.testing.assert_array_equal(GaussianNoise(0.5, seed=1)(x, training=True), y)


def test_gaussian_dropout() -> None:
    x = np.full((200, 100), 3.0)
    y = GaussianDropout(0.2, seed=1)(x, training=True)
    assert y.mean() == pytest.approx(3, abs=0.03)
    assert y.std() == pytest.approx(3 * 0.5, rel=0.02)
    np.testing.assert_array_equal(GaussianDropout(0.2)(x), x)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = normal(400, 300)
    y = AlphaDropout(0.3, seed=1)(x, training=True)
    assert y.mean() == pytest.approx(0, abs=0.01)
    assert y.std() == pytest.approx(1, rel=0.01)
    values, counts = np.unique(y, return_counts=True)
    assert counts.max() == pytest.approx(0.3 * x.size, rel=0.02)
    lowest = -1.0507009873554805 * 1.6732632423543772
    a = (0.7 * (1 + 0.3 * lowest**2)) ** -0.5
    assert values[counts.argmax()] == pytest.approx(a * lowest - a * lowest * 0.3, rel=1e-5)
    kept = y != values[counts.argmax()]
    np.testing.assert_allclose(y[kept], (a * x - a * lowest * 0.3)[kept], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(AlphaDropout(0.3, dtype="float64")(x), x)
    rows = AlphaDropout(0.5, noise_shape=(None, 1), seed=0)(np.ones((50, 4)), training=True)
    np.testing.assert_array_equal(rows, np.repeat(rows[:, :1], 4, axis=1))


@pytest.mark.parametrize("shape", [(6, 12), (1, 2, 6), (3, 12, 1)], ids=str)
def test_reshape(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    np.testing.assert_array_equal(Reshape((3, 4), dtype="float64")(x), x.reshape(-1, 3, 4))
    layer = Reshape((-1, 2), dtype="float64")
    np.testing.assert_array_equal(layer(x), x.reshape(len(x), 6, 2))
    assert layer.compute_output_shape((None, *shape[1:])) == (None, 6, 2)
    assert layer.compute_output_shape((None, None, 2)) == (None, None, 2)


def test_rescaling() -> None:
    x = np.arange(12).reshape(2, 2, 3)
    np.testing.assert_allclose(Rescaling(1 / 255)(x), x / 255, rtol=1e-6)
    scale, offset = [1.0, 2.0, 3.0], [0.5, 0.0, -1.0]
    np.testing.assert_allclose(Rescaling(scale, offset)(x), x * scale + offset, rtol=1e-6)


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), None], ids=str)
def test_normalization(axis: int | tuple[int, ...] | None) -> None:
    x = 5 + 3 * normal(50, 4, 3)
    layer = Normalization(axis, dtype="float64")
    layer.adapt(x)
    kept = () if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = tuple(a for a in range(3) if a not in [k % 3 for k in kept])
    expected = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-9, atol=1e-9)
    inverse = Normalization(
        None, mean=layer.get_weights()[0].mean(), variance=4.0, invert=True, dtype="float64"
    )
    np.testing.assert_allclose(inverse(x), 2 * x + layer.get_weights()[0].mean())
    # From batches of unequal sizes, and pairs with labels.
    for parts in ([x[:7], x[7:8], x[8:]], ((part, 0) for part in (x[:40], x[40:]))):
        again = Normalization(axis, dtype="float64")
        again.adapt(parts)
        for a, b in zip(again.get_weights()[:2], layer.get_weights(), strict=False):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert [v.name for v in layer.weights] == ["mean", "variance", "count"]
    assert not layer.trainable_weights


def test_normalization_in_a_model_that_was_run_before() -> None:
    layer = Normalization()
    model = Sequential([Input((3,)), layer])
    x = 5 + 3 * normal(50, 3)
    np.testing.assert_allclose(model.predict(x, verbose=0), x, rtol=1e-6)
    layer.adapt(x)
    assert abs(model.predict(x, verbose=0).mean()) < 1e-5
    constant = Normalization()
    constant.adapt(np.full((9, 2), 7.0))
    np.testing.assert_array_equal(constant(np.full((1, 2), 7.0)), 0)


STACKS: dict[str, Callable[[], list[Layer]]] = {
    "noise": lambda: [GaussianNoise(0.3, dtype="float64")],
    "gaussian dropout": lambda: [GaussianDropout(0.3, dtype="float64")],
    "alpha dropout": lambda: [AlphaDropout(0.3, dtype="float64")],
    "reshape": lambda: [
        Reshape((2, 2), dtype="float64"),
        Dense(3, dtype="float64"),
        Reshape((-1,), dtype="float64"),
    ],
    "rescaling": lambda: [Rescaling([2.0, 3.0, 0.5, 1.0], 0.25, dtype="float64")],
    "normalization": lambda: [Normalization(None, mean=0.5, variance=4.0, dtype="float64")],
}


@pytest.mark.parametrize("name", STACKS)
def test_gradients(name: str) -> None:
    check_stack(STACKS[name], (5,))


def test_configurations() -> None:
    for layer in (
        GaussianNoise(0.5, seed=3),
        GaussianDropout(0.5),
        AlphaDropout(0.5, noise_shape=(None, 1)),
        Reshape((2, -1)),
        Rescaling([0.5, 2.0], 1.0),
        Normalization((1, 2)),
        Normalization(None, mean=[0.5], variance=[2.0], invert=True),
    ):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: GaussianNoise(-1), "`stddev` must be a finite number >= 0"),
    (lambda: GaussianDropout(1.0), r"`rate` must be in \[0, 1\)"),
    (lambda: AlphaDropout(1.0), r"`rate` must be in \[0, 1\)"),
    (lambda: Reshape((-1, -1)), "`target_shape` must hold positive .* -1 at most once"),
    (lambda: Reshape((0,)), "`target_shape` must hold positive integers"),
    (lambda: Reshape((5,))(np.ones((2, 4))), r"elements of `target_shape`, \(5,\)"),
    (lambda: Reshape((3, -1))(np.ones((2, 4))), r"elements of `target_shape`, \(3, -1\)"),
    (lambda: Rescaling(float("nan")), "`scale` must hold finite numbers"),
    (lambda: Normalization(mean=1.0), "`mean` and `variance` must be given together"),
    (lambda: Normalization(5)(np.ones((2, 4))), "`axis` of layer .* of rank 2"),
    (lambda: Normalization(mean=1.0, variance=1.0).adapt(np.ones((2, 2))), "cannot `adapt`"),
    (lambda: Normalization().adapt(np.ones((0, 2))), "`data` must hold at least one sample"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("argument", ["input_shape", "batch_input_shape"])
def test_inputs_as_keras_2_has_them(argument: str) -> None:
    shape = (None, 8) if argument.startswith("batch") else (8,)
    options: dict[str, Any] = {argument: shape}
    for first in ([InputLayer(**options), Dense(2)], [Dense(2, **options)]):
        model = Sequential(first)
        assert model.built
        assert model.input_shape == (None, 8)
    assert InputLayer(batch_input_shape=(4, 8)).batch_shape == (4, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InputLayer((8,), input_shape=(8,)), "Exactly one .* input_shape="),
        (
            lambda: InputLayer(batch_shape=(None, 8), batch_input_shape=(None, 8)),
            "Exactly one .* batch_input_shape=",
        ),
        (lambda: InputLayer(), "Exactly one .* shape=None, batch_shape=None"),
        (lambda: InputLayer(batch_input_shape=()), "`batch_input_shape` must be a tuple that"),
        (lambda: InputLayer(batch_input_shape=(None, 0)), "`batch_input_shape` must hold positive"),
        (lambda: InputLayer(input_shape=(None,)), "`input_shape` must hold positive"),
        (
            lambda: Dense(2, input_shape=(8,), batch_input_shape=(None, 8)),
            "`input_shape` and `batch_input_shape` say the same",
        ),
        (lambda: Dense(2, batch_input_shape=8), "`batch_input_shape` must be a tuple that"),
    ],
)
def test_one_shape_of_the_input(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
