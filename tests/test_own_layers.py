"""Layers that a user writes, and subclasses that override `call`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import utils
from fusednn.layers import AlphaDropout, BatchNormalization, Dense, Dropout, Input, Layer
from fusednn.models import Sequential, clone_model
from fusednn.optimizers import SGD, Adam
from gradient_check import check_stack, normal


class Scale(Layer):
    """y = x * factor, a weight for each feature."""

    def __init__(self, start: str = "ones", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.factor = self.add_weight(
            name="factor", shape=input_shape[1:], initializer=self.start, regularizer="l2"
        )
        super().build(input_shape)

    def call(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x * self.factor.value

    def backward(self, grad: np.ndarray) -> np.ndarray:
        self.factor.grad[...] = (grad * self.x).sum(axis=0)
        return grad * self.factor.value

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"start": self.start}


class Halves(Layer):
    """The means of the first and of the second half, in training; else twice that."""

    def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self.shape = x.shape
        means = x.reshape(len(x), 2, -1).mean(axis=2)
        return means if training else 2 * means

    def backward(self, grad: np.ndarray) -> np.ndarray:
        share = self.shape[1] // 2
        return np.repeat(grad / share, share, axis=1)


class MCDropout(Dropout):
    def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        return super().call(x, training=True)


class Doubled(Dense):
    def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        return 2 * super().call(x, training)

    def backward(self, grad: np.ndarray) -> np.ndarray:
        return super().backward(2 * grad)


def test_gradients() -> None:
    check_stack(lambda: [Scale("random_normal", dtype="float64")], (5,))
    check_stack(lambda: [Scale(dtype="float64"), Halves(dtype="float64")], (5,))
    check_stack(lambda: [Doubled(6, "tanh", dtype="float64"), Scale(dtype="float64")], (5,))
    check_stack(lambda: [Scale(trainable=False, dtype="float64")], (5,))
    check_stack(lambda: [MCDropout(0.4, dtype="float64")], (5,))


def test_training_shapes_and_modes() -> None:
    model = Sequential([Input((6,)), Scale(), Halves()])
    assert model.output_shape == (None, 2)
    assert model.count_params() == 6
    x = normal(7, 6).astype(np.float32)
    means = x.reshape(7, 2, 3).mean(axis=2)
    np.testing.assert_allclose(model(x), 2 * means, rtol=1e-5)
    np.testing.assert_allclose(model(x, training=True), means, rtol=1e-5)
    np.testing.assert_allclose(Halves()(x), 2 * means, rtol=1e-5)
    model.compile(Adam(0.05), "mse")
    history = model.fit(x, np.ones((7, 2)), epochs=200, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]


def test_copies_and_clones() -> None:
    model = Sequential([Input((6,)), Scale("random_normal"), MCDropout(0.5), Dense(2)])
    model.compile(SGD(0.1), "mse")
    x, y = normal(8, 6), normal(8, 2, seed=1)
    model.train_on_batch(x, y)
    twin = copy.deepcopy(model)
    clone = clone_model(model)
    clone.set_weights(model.get_weights())
    for other in (twin, clone):
        utils.set_random_seed(3)
        expected = model.predict(x, verbose=0)
        utils.set_random_seed(3)
        np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
    assert type(clone.layers[0]) is Scale
    assert clone.layers[0].start == "random_normal"


def test_monte_carlo_dropout() -> None:
    model = Sequential([Input((50,)), MCDropout(0.5)])
    x = np.ones((4, 50))
    drawn = np.stack([model.predict(x, verbose=0) for _ in range(200)])
    assert set(np.unique(drawn)) == {0, 2}
    assert abs(drawn.mean() - 1) < 0.05
    plain = Sequential([Input((50,)), Dropout(0.5), AlphaDropout(0.2)])
    assert np.all(plain.predict(x, verbose=0) == 1)
    assert np.std([plain(x, training=True) for _ in range(5)]) > 0


def test_batch_normalization_inside_a_call_of_ones_own() -> None:
    class Wrapped(BatchNormalization):
        def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
            return super().call(x, training)

    results = []
    for make in (BatchNormalization, Wrapped):
        utils.set_random_seed(1)
        model = Sequential([Input((5,)), Dense(4, use_bias=False), make(), Dense(2)])
        model.compile(Adam(0.01), "mse")
        model.fit(normal(64, 5), normal(64, 2, seed=1), epochs=3, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_refusals() -> None:
    class NoBackward(Layer):
        def call(self, x: np.ndarray) -> np.ndarray:
            return 2 * x

    model = Sequential([Input((3,)), Dense(3), NoBackward()])
    model.predict(np.ones((2, 3)), verbose=0)
    model.compile(SGD(), "mse")
    before = model.get_weights()
    with pytest.raises(NotImplementedError, match="NoBackward must define `backward`"):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 3)))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    class WrongShape(Scale):
        def backward(self, grad: np.ndarray) -> np.ndarray:
            return grad[:1]

    model = Sequential([Input((3,)), Dense(3), WrongShape()])
    model.compile(SGD(), "mse")
    with pytest.raises(ValueError, match=r"`backward` of layer .* of shape \(2, 3\).*\(1, 3\)"):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 3)))

    class Lies(Layer):
        def call(self, x: np.ndarray) -> np.ndarray:
            return x[:, :1]

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    with pytest.raises(ValueError, match=r"`call` of layer .* says, \(2, 3\).*shape \(2, 1\)"):
        Sequential([Input((3,)), Lies()]).predict(np.ones((2, 3)), verbose=0)

    class Unknown(Layer):
        def build(self, input_shape: Any) -> None:
            self.add_weight("w", (None, 3))

    with pytest.raises(ValueError, match=r"`shape` of variable 'w' .* must be known"):
        Unknown().build((None, 3))


@pytest.mark.parametrize("method", ["call", "backward"])
def test_what_is_no_array_is_refused(method: str) -> None:
    """As gradients of weights beside that of the input, which other packages want."""

    class Pair(Layer):
        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def call(self, x: np.ndarray) -> Any:
            return (x, [x.sum()]) if method == "call" else 2 * x

        def backward(self, grad: np.ndarray) -> Any:
            return 2 * grad, [grad.sum()]

    model = Sequential([Input((3,)), Dense(3), Pair(name="pair")])
    model.compile("sgd", "mse")
    with pytest.raises(
        TypeError, match=rf"`{method}` of layer 'pair' must return an array; .*tuple"
    ):
        model.fit(np.ones((4, 3)), np.ones((4, 3)), verbose=0)


def test_build_without_its_super() -> None:
    class Plain(Scale):
        def build(self, input_shape: tuple[int | None, ...]) -> None:
            self.factor = self.add_weight(shape=input_shape[1:], initializer="random_normal")

    layer = Plain()
    x = normal(7, 6).astype(np.float32)
    np.testing.assert_array_equal(layer(x), layer(x))
    assert layer.built
    assert layer.count_params() == 6
    model = Sequential([Input((6,)), Plain(), Dense(2)])
    assert model.layers[0].built
    assert model.count_params() == 20


def test_a_call_that_does_more_needs_a_backward() -> None:
    class Twice(Dense):
        def call(self, x: np.ndarray) -> np.ndarray:
            return 2 * super().call(x)

    class Shifted(Dense):
        def call(self, x: np.ndarray) -> np.ndarray:
            return super().call(x + 1)

    class Skipped(Dense):
        def call(self, x: np.ndarray) -> np.ndarray:
            return x @ self.kernel.value

    for kind in (Twice, Shifted, Skipped):
        model = Sequential([Input((3,)), Dense(3), kind(3)])
        model.predict(np.ones((2, 3)), verbose=0)
        model.compile("sgd", "mse")
        with pytest.raises(NotImplementedError, match="must define `backward`: its `call` does"):
            model.train_on_batch(np.ones((2, 3)), np.ones((2, 3)))


def test_layers_that_a_layer_holds(tmp_path: Path) -> None:
    class Residual(Layer):
        def __init__(self, inner: Layer) -> None:
            super().__init__(name="residual")
            self.inner = [inner]

        def call(self, x: np.ndarray) -> np.ndarray:
            return x + self.inner[0](x)

        def backward(self, grad: np.ndarray) -> np.ndarray:
            return grad + self.inner[0].backward(grad)

    model = Sequential([Input((3,)), Residual(Dense(3, name="inner"))])
    model.compile("sgd", "mse")
    with pytest.raises(NotImplementedError, match="'residual' must not hold layer 'inner'"):
        model.fit(np.ones((4, 3)), np.ones((4, 3)), verbose=0)
    with pytest.raises(NotImplementedError, match="'residual' must not hold layer 'inner'"):
        model.save_weights(tmp_path / "m.weights.h5")
    assert not any(tmp_path.iterdir())
    shared = Dense(3)
    model = Sequential([Input((3,)), shared, Residual(shared)])
    assert model.predict(np.ones((4, 3)), verbose=0).shape == (4, 3)
    assert Sequential([Input((3,)), Residual(Dropout(0.5))])(np.ones((4, 3))).shape == (4, 3)
    dense = Dense(3)
    dense(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"must follow its `call\(x, training\)`"):
        dense.backward(np.ones((4, 3), np.float32))
