"""Subclasses of `Sequential` that override `call`: what runs, what trains, what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn import utils
from fusednn.layers import BatchNormalization, Dense, Dropout, Input, LeakyReLU
from fusednn.models import (
    Sequential,
    clone_model,
    fold_batch_norm,
    load_model,
    recalibrate_batch_norm,
)
from fusednn.optimizers import SGD

RNG = np.random.default_rng(0)
X = RNG.standard_normal((19, 5)).astype(np.float32)
Y = RNG.standard_normal((19, 3)).astype(np.float32)


def layers() -> list[Any]:
    return [
        Input((5,)),
        Dense(7, kernel_regularizer="l2", activity_regularizer="l1"),
        BatchNormalization(),
        LeakyReLU(),
        Dense(3),
    ]


class Plain(Sequential):
    """The model as it is, by way of `call`."""

    calls = 0

    def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.calls += 1
        return super().call(x, training=training)


class MonteCarlo(Sequential):
    def call(self, x: np.ndarray) -> np.ndarray:
        return super().call(x, training=True)


class Residual(Sequential):
    """``x[:, :3] + layers(2 * x)``, with its gradient."""

    def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        return x[:, :3] + super().call(2 * x, training)

    def backward(self, grad: np.ndarray) -> None:
        super().backward(grad)


class OneByOne(Sequential):
    """The layers one after another; twice their output."""

    def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        for layer in self.layers:
            x = layer.call(x, training)
        return 2 * x

    def backward(self, grad: np.ndarray) -> None:
        grad = 2 * grad
        for layer in reversed(self.layers):
            grad = layer.backward(grad)


class Doubled(Sequential):
    def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        return 2 * super().call(x, training)


def seeded(cls: type[Sequential], given: list[Any] | None = None) -> Sequential:
    utils.set_random_seed(1)
    model = cls(given or layers())
    model.compile(SGD(0.1), "mse")
    return model


def test_an_override_runs_everywhere_and_trains_with_the_same_bits() -> None:
    own, plain = seeded(Plain), seeded(Sequential)
    for model in (own, plain):
        utils.set_random_seed(2)
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    for a, b in zip(own.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert own.history.history == plain.history.history
    calls = own.calls
    np.testing.assert_array_equal(own(X), plain(X))
    np.testing.assert_array_equal(own.predict(X, verbose=0), plain.predict(X, verbose=0))
    np.testing.assert_array_equal(own(X, training=True), plain(X, training=True))
    assert own.evaluate(X, Y, verbose=0) == plain.evaluate(X, Y, verbose=0)
    assert own.calls == calls + 4
    copied = copy.deepcopy(own)
    np.testing.assert_array_equal(copied(X), plain(X))


def test_training_mode_in_inference() -> None:
    stack = [Input((5,)), Dense(64), Dropout(0.5), Dense(3)]
    model = seeded(MonteCarlo, stack)
    assert not np.array_equal(model.predict(X, verbose=0), model.predict(X, verbose=0))
    assert not np.array_equal(model(X), model(X))
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("cls", [Residual, OneByOne])
def test_gradients_of_a_model_of_the_user(cls: type[Sequential]) -> None:
    model = cls([Input((5,), dtype="float64"), Dense(4, "tanh", dtype="float64")])
    model.add(Dense(3, dtype="float64"))
    model.compile(SGD(1.0), "mse")
    before = model.get_weights()
    model.train_on_batch(X, Y)
    grads = [a - b for a, b in zip(before, model.get_weights(), strict=True)]
    model.set_weights(before)
    for place, grad in enumerate(grads):
        weights = [w.copy() for w in before]
        found = []
        for step in (1e-6, -1e-6):
            weights[place].flat[0] = before[place].flat[0] + step
            model.set_weights(weights)
            found.append(model.evaluate(X, Y, verbose=0))
        assert grad.flat[0] == pytest.approx((found[0] - found[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_a_gradient_that_is_not_written_is_refused() -> None:
    model = seeded(Doubled)
    np.testing.assert_array_equal(model(X), 2 * seeded(Sequential)(X))
    before = model.get_weights()
    with pytest.raises(NotImplementedError, match=r"Doubled must define `backward`: its `call`"):
        model.fit(X, Y, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_outputs_of_another_shape() -> None:
    class Best(Sequential):
        def call(self, x: np.ndarray) -> np.ndarray:
            return super().call(x).max(axis=1, keepdims=True)

    model = seeded(Best)
    assert model.output_shape == (None, 1)
    assert model.predict(X, batch_size=4, verbose=0).shape == (19, 1)

    class Uneven(Sequential):
        def call(self, x: np.ndarray) -> np.ndarray:
            return x[:, : len(x)]

    with pytest.raises(ValueError, match="must return an array of the same shape for every batch"):
        seeded(Uneven).predict(X, verbose=0)

    class Narrow(Sequential):
        def call(self, x: np.ndarray) -> np.ndarray:
            return super().call(x[:, :2])

    with pytest.raises(ValueError, match=r"`x` must have shape \(None, 5\), the input of model"):
        seeded(Narrow).predict(X, verbose=0)


def test_what_would_disregard_an_override_is_refused() -> None:
    model = seeded(Plain)
    for disregards in (fold_batch_norm, lambda m: recalibrate_batch_norm(m, X)):
        with pytest.raises(NotImplementedError, match="must get a model without a `call` of its"):
            disregards(model)
    with pytest.raises(NotImplementedError, match="A model must get a model without a `call`"):
        Sequential([model, Dense(2)])
    cloned = clone_model(model)
    assert type(cloned) is Plain
    assert cloned.calls == 0


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_files(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("h5py", reason="Keras' files are HDF5 files")
    model = seeded(Doubled)
    path = tmp_path / f"m{ending}"
    model.save(path)
    again = load_model(path, custom_objects={"Doubled": Doubled})
    np.testing.assert_array_equal(again(X), model(X))
    for missing in ({}, {"Doubled": Dense}):
        with pytest.raises(ValueError, match=r"in `custom_objects`. Received: 'Doubled'"):
            load_model(path, custom_objects=missing)


def test_every_model_is_sequential() -> None:
    assert fusednn.Layer is fusednn.layers.Layer
    assert isinstance(Sequential(), fusednn.Model)

    class Own(fusednn.Model):
        pass

    for make in (fusednn.Model, Own):
        with pytest.raises(NotImplementedError, match=f"`{make.__name__}` must be a `Sequential`"):
            make(inputs=[], outputs=[])
