"""Regularizers and constraints against real Keras: values, and 50 steps of a model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from fusednn import constraints, layers, models, optimizers, regularizers

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

REGULARIZERS: list[tuple[str, dict[str, Any]]] = [
    ("L1", {}),
    ("L2", {}),
    ("L1L2", {"l1": 0.02, "l2": 0.03}),
    ("l1_l2", {"l1": 0.02}),
    ("OrthogonalRegularizer", {}),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
]
CONSTRAINTS: list[tuple[str, dict[str, Any]]] = [
    ("MaxNorm", {}),
    ("max_norm", {"max_value": 1.0, "axis": 1}),
    ("NonNeg", {}),
    ("UnitNorm", {"axis": 0}),
    ("MinMaxNorm", {"min_value": 1.0, "max_value": 1.5, "rate": 0.3}),
]


def numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


@pytest.mark.parametrize(("name", "options"), REGULARIZERS)
def test_penalties(rng: np.random.Generator, name: str, options: dict[str, Any]) -> None:
    x = rng.standard_normal((9, 5)).astype(np.float32)
    mine = getattr(regularizers, name)(**options)
    theirs = getattr(keras.regularizers, name)(**options)
    assert mine(x) == pytest.approx(float(theirs(keras.ops.convert_to_tensor(x))), rel=1e-5)
    assert mine.get_config() == pytest.approx(theirs.get_config())


@pytest.mark.parametrize(("name", "options"), CONSTRAINTS)
def test_constraints(rng: np.random.Generator, name: str, options: dict[str, Any]) -> None:
    x = rng.standard_normal((9, 5)).astype(np.float32)
    mine = getattr(constraints, name)(**options)
    theirs = getattr(keras.constraints, name)(**options)
    np.testing.assert_allclose(mine(x), numpy(theirs(x)), rtol=1e-5, atol=1e-7)
    assert mine.get_config() == theirs.get_config()


def architecture(library: Any, penalties: Any, limits: Any) -> list[Any]:
    return [
        library.Dense(
            12,
            activation="tanh",
            kernel_regularizer=penalties.L1L2(1e-3, 1e-2),
            bias_regularizer="l2",
            kernel_constraint=limits.MaxNorm(0.9),
            activity_regularizer=penalties.L1(1e-3),
        ),
        library.BatchNormalization(gamma_regularizer="l1", beta_constraint="non_neg"),
        library.PReLU(alpha_regularizer=penalties.L2(0.1), alpha_constraint=limits.NonNeg()),
        library.Dense(8, kernel_regularizer="orthogonal_regularizer", trainable=False),
        library.ActivityRegularization(l2=0.02),
        library.Dense(3, kernel_constraint="unit_norm"),
    ]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training(optimizer: str) -> None:
    keras.utils.set_random_seed(1)
    theirs = keras.Sequential(
        [
            keras.Input((7,)),
            *architecture(keras.layers, keras.regularizers, keras.constraints),
        ]
    )
    ours = models.Sequential([layers.Input((7,)), *architecture(layers, regularizers, constraints)])
    ours.set_weights(theirs.get_weights())
    ours.compile(getattr(optimizers, optimizer)(0.01), "mse")
    theirs.compile(getattr(keras.optimizers, optimizer)(0.01), "mse")
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((50 * 16, n)).astype(np.float32) for n in (7, 3))
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0}
    own = ours.fit(x, y, validation_data=(x, y), **settings).history
    their = theirs.fit(x, y, validation_data=(x, y), **settings).history
    for name, values in their.items():
        np.testing.assert_allclose(own[name], values, rtol=1e-5, err_msg=name)
    for mine, peer in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine, numpy(peer.value), rtol=1e-4, atol=1e-5, err_msg=mine.path)
