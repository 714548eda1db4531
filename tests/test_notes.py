"""Statements for Keras, as notes on the subject have them, run as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn import utils

TRANSFER = """
model_A = keras.models.load_model("my_model.h5")
model_B = keras.models.Sequential(model_A.layers[:-1])
model_B.add(keras.layers.Dense(2, activation = "sigmoid"))
model_A_clone = keras.models.clone_model(model_A)
model_A_clone.set_weights(model_A.get_weights())

# layer 를 freeze 한 후 compile 할 것
for layer in model_B.layers[:-1]:
	layer.trainable = False

model_B.compile(loss = "binary_crossentropy", optimizer = "sgd", metrics = ["loss"])
"""

OPTIMIZERS = """
optimizer = keras.optimizers.SGD(lr = 0.001, momentum = 0.9, nesterov = True)
optimizer = keras.optimizers.RMSProp(lr = 0.001, rho = 0.9)
optimizer = keras.optimizers.Adam(lr = 0.001, beta_1 = 0.9, beta_2 = 0.999)
"""

X = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
Y = np.eye(2, dtype=np.float32)[(X[:, 0] > 0).astype(int)]


def run(statements: str, **names: Any) -> dict[str, Any]:
    names["keras"] = fusednn
    exec(statements, names)
    return names


def test_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    utils.set_random_seed(0)
    layers = fusednn.layers
    model = fusednn.Sequential(
        [
            layers.Input((5,)),
            layers.Dense(6),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, np.arange(40) % 3, verbose=0)
    model.save("my_model.h5")

    names = run(TRANSFER)
    a, b, clone = names["model_A"], names["model_B"], names["model_A_clone"]
    np.testing.assert_array_equal(a.predict(X, verbose=0), model.predict(X, verbose=0))
    assert [mine is its for mine, its in zip(b.layers, a.layers, strict=True)] == [True] * 3 + [
        False
    ]
    before, output = a.get_weights(), b.layers[-1].get_weights()
    history = b.fit(X, Y, epochs=20, verbose=0).history
    assert list(history) == ["loss"]
    assert history["loss"][-1] < history["loss"][0]
    assert np.any(output[0] != b.layers[-1].get_weights()[0])
    for kept, now, of_clone in zip(before, a.get_weights(), clone.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)  # frozen, moving statistics, too
        np.testing.assert_array_equal(kept, of_clone)

    for layer in b.layers[:-1]:  # the page's advice: unfreeze, and lower the rate
        layer.trainable = True
    b.compile("sgd", "binary_crossentropy")
    b.fit(X, Y, verbose=0)
    assert np.any(before[0] != a.get_weights()[0])  # A shares its layers with B
    for kept, of_clone in zip(before, clone.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, of_clone)


def test_optimizers() -> None:
    assert type(run(OPTIMIZERS)["optimizer"]) is fusednn.optimizers.Adam
    made = [run(line)["optimizer"] for line in OPTIMIZERS.strip().splitlines()]
    assert [type(optimizer).__name__ for optimizer in made] == ["SGD", "RMSprop", "Adam"]
    assert [optimizer.learning_rate for optimizer in made] == [0.001] * 3
    momentum, root, adam = made
    assert (momentum.momentum, momentum.nesterov, root.rho) == (0.9, True, 0.9)
    assert (adam.beta_1, adam.beta_2) == (0.9, 0.999)
    for optimizer in made:
        model = fusednn.Sequential([fusednn.Input((5,)), fusednn.layers.Dense(2, "sigmoid")])
        model.compile(optimizer, "binary_crossentropy")
        history = model.fit(X, Y, epochs=10, verbose=0).history["loss"]
        assert history[-1] < history[0]
