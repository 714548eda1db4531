"""Penalties: formulas, gradients by finite differences, in training and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusednn import regularizers
from fusednn.layers import (
    ActivityRegularization,
    BatchNormalization,
    Dense,
    Input,
    Layer,
    PReLU,
)
from fusednn.models import Sequential
from fusednn.optimizers import SGD
from fusednn.regularizers import L1, L1L2, L2, OrthogonalRegularizer, Regularizer
from gradient_check import around, check_gradients, normal


def mean_of_products(x: np.ndarray) -> float:
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [abs(units[i] @ units[j]) for i in range(len(x)) for j in range(i)]
    return float(np.mean(pairs)) if pairs else 0.0


CASES: dict[str, tuple[Regularizer, Any]] = {
    "l1": (L1(0.2), lambda x: 0.2 * np.abs(x).sum()),
    "l2": (L2(0.3), lambda x: 0.3 * (x**2).sum()),
    "l1_l2": (L1L2(0.2, 0.3), lambda x: 0.2 * np.abs(x).sum() + 0.3 * (x**2).sum()),
    "nothing": (L1L2(), lambda x: 0.0),
    "rows": (OrthogonalRegularizer(0.5), lambda x: 0.5 * mean_of_products(x)),
    "columns": (OrthogonalRegularizer(0.5, "columns"), lambda x: 0.5 * mean_of_products(x.T)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (7, 5), (5, 7)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_penalty_and_gradient(name: str, shape: tuple[int, int], dtype: str) -> None:
    regularizer, formula = CASES[name]
    x = normal(*shape).astype(dtype)
    wide = x.astype(np.float64)
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    work = np.full_like(x, np.nan)
    for value in (regularizer(x), regularizer.penalty(x, work)):
        assert value == pytest.approx(formula(wide), rel=tolerance, abs=tolerance)

    numeric = np.zeros(shape)
    for index in np.ndindex(*shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = wide.copy()
            moved[index] += step
            ends.append(formula(moved))
        numeric[index] = (ends[0] - ends[1]) / 2e-6
    grad = np.ones_like(x)
    regularizer.add_gradient(x, grad, 2.0, work)
    np.testing.assert_allclose(grad, 1 + 2 * numeric, rtol=1e-5, atol=1e-6)


STACKS: dict[str, list[Layer]] = {
    "kernel and bias": [
        Dense(4, kernel_regularizer=L1L2(0.1, 0.2), bias_regularizer="l2", dtype="float64")
    ],
    "batch norm": [
        BatchNormalization(gamma_regularizer=L2(0.3), beta_regularizer=L1(0.2), dtype="float64")
    ],
    "bias that is folded away": [
        Dense(4, bias_regularizer=L2(0.3), dtype="float64"),
        BatchNormalization(dtype="float64"),
    ],
    "prelu": [PReLU("ones", alpha_regularizer=L2(0.3), dtype="float64")],
    "activity": [Dense(4, "tanh", activity_regularizer=L1L2(0.1, 0.2), dtype="float64")],
    "activity layer": [ActivityRegularization(0.1, 0.2, dtype="float64")],
    "orthogonal": [Dense(4, kernel_regularizer=OrthogonalRegularizer(0.3), dtype="float64")],
}


@pytest.mark.parametrize("name", STACKS)
def test_gradients_in_a_model(name: str) -> None:
    check_gradients(around(STACKS[name], (5,)), normal(6, 5, seed=5), normal(6, 3, seed=6))


def test_reported_losses_hold_the_penalties() -> None:
    model = Sequential(
        [Input((3,)), Dense(2, kernel_regularizer=L2(0.5), kernel_initializer="ones")]
    )
    model.add(Dense(2, kernel_regularizer=L2(0.5), kernel_initializer="ones", trainable=False))
    model.add(ActivityRegularization(l1=0.25))
    model.compile(SGD(0.0), "mse")
    x, y = np.ones((4, 3)), np.full((4, 2), 6.0)
    # 6 ones of a kernel that trains; outputs of 6 in 2 places a sample.
    expected = 0.5 * 6 + 0.25 * 12
    assert model.losses == [3.0]
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected)
    assert model.fit(x, y, verbose=0).history["loss"] == [pytest.approx(expected)]
    assert model.test_on_batch(x, y) == pytest.approx(expected)
    model.layers[1].trainable = True
    assert model.losses == [3.0, 2.0]
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected)  # as compiled
    model.compile(SGD(0.0), "mse")
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected + 2)


def test_penalties_of_activities_that_later_layers_overwrite() -> None:
    model = Sequential([Input((5,))])
    for _ in range(4):
        model.add(Dense(5, "tanh", activity_regularizer=L2(0.5)))
    model.compile(SGD(0.0), "mse")
    x, y = normal(8, 5), normal(8, 5, seed=1)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(model.train_on_batch(x, y), rel=1e-6)


def test_a_large_penalty_pulls_weights_to_zero() -> None:
    model = Sequential([Input((4,)), Dense(3, kernel_regularizer=L2(5.0), use_bias=False)])
    model.compile(SGD(0.01), "mse")
    model.fit(normal(64, 4), normal(64, 3, seed=1), epochs=50, verbose=0)
    assert np.abs(model.get_weights()[0]).max() < 0.05


def test_get_and_configuration() -> None:
    assert regularizers.get(None) is None
    assert regularizers.serialize(None) is None
    assert regularizers.get("l2").l2 == 0.01
    assert regularizers.get("L1").l1 == 0.01
    assert regularizers.get("l1_l2").get_config() == {"l1": 0.0, "l2": 0.0}
    for made, _ in CASES.values():
        again = regularizers.deserialize(regularizers.serialize(made))
        assert type(again) is type(made)
        assert again.get_config() == made.get_config()
    dense = Dense(2, kernel_regularizer=L1(0.5), activity_regularizer="l2")
    again = Dense.from_config(dense.get_config())
    assert again.kernel_regularizer.l1 == 0.5
    assert again.activity_regularizer.l2 == 0.01
    layer = ActivityRegularization(0.5, 0.25)
    assert ActivityRegularization.from_config(layer.get_config()).get_config() == layer.get_config()


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"`l1` must be a finite number >= 0.*l1=-1"):
        L1(-1)
    with pytest.raises(ValueError, match=r"`l2` must be a finite number >= 0.*l2=nan"):
        L2(float("nan"))
    with pytest.raises(ValueError, match="`mode` must be 'rows' or 'columns'"):
        OrthogonalRegularizer(mode="both")
    with pytest.raises(ValueError, match=r"needs an array of 2 axes. Received: shape \(3,\)"):
        OrthogonalRegularizer()([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="`regularizer` must be a regularizer object"):
        regularizers.get(0.1)
    with pytest.raises(NotImplementedError, match="Regularizer must define `__call__` or `pen"):
        Regularizer()([1.0])
