"""Weights of samples and classes in training, against real Keras."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from fusednn import layers, models, optimizers

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50 * 8, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 50 * 8)
WEIGHTS = RNG.random(50 * 8).astype(np.float32)


@pytest.mark.parametrize(
    "how",
    [
        {"sample_weight": WEIGHTS},
        {"class_weight": {0: 2.0, 2: 0.25}},
        {"sample_weight": WEIGHTS, "validation_split": 0.2},
        {"class_weight": {0: 9.0, 2: 0.5}, "validation_split": 0.2},
        {"class_weight": {1: 3.0}, "validation_data": (X, LABELS, WEIGHTS)},
    ],
    ids=lambda how: "-".join(how),
)
def test_training(how: dict[str, Any]) -> None:
    def architecture(library: Any) -> list[Any]:
        return [library.Dense(8, activation="tanh"), library.Dense(3, activation="softmax")]

    keras.utils.set_random_seed(1)
    theirs = keras.Sequential([keras.Input((6,)), *architecture(keras.layers)])
    ours = models.Sequential([layers.Input((6,)), *architecture(layers)])
    ours.set_weights(theirs.get_weights())
    for model, library in ((ours, optimizers), (theirs, keras.optimizers)):
        model.compile(
            library.Adam(0.01),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            weighted_metrics=["sparse_categorical_accuracy"],
        )
    settings = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 1}
    own = ours.fit(X, LABELS, **settings, **how).history
    their = theirs.fit(X, LABELS, **settings, **how).history
    assert own.keys() == their.keys()
    for name, values in their.items():
        tolerance = {"rtol": 1e-5} if "loss" in name else {"atol": 0.01}
        np.testing.assert_allclose(own[name], values, **tolerance, err_msg=name)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
