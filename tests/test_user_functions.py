"""Losses, metrics, initializers, regularizers and constraints that the user writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import activations, initializers, losses, metrics, regularizers, utils
from fusednn.layers import Dense, Input, Layer
from fusednn.models import Sequential, clone_model, load_model
from fusednn.optimizers import SGD

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 5)).astype(np.float32)
Y = RNG.standard_normal((7, 3)).astype(np.float32)
LABELS = np.arange(7) % 3


class Square(losses.Loss):
    """The mean squared error, by hand; of each sample, of each element, or of whole images."""

    def __init__(self, axes: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.axes = axes

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ((y_pred - y_true) ** 2).mean(axis=tuple(range(self.axes, y_pred.ndim)))

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        return 2 * (y_pred - y_true) / np.prod(y_pred.shape[self.axes :])


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("weights", [None, np.arange(7) % 4 + 0.5], ids=["plain", "weighted"])
@pytest.mark.parametrize("axes", [1, 2])
def test_a_loss_with_call_and_gradient(reduction: str, weights: Any, axes: int) -> None:
    own = Square(axes, reduction=reduction)
    theirs = losses.MeanSquaredError(reduction=reduction)
    value, grad = own.value_and_gradient(Y, X[:, :3], sample_weight=weights)
    expected, slope = theirs.value_and_gradient(Y, X[:, :3], sample_weight=weights)
    factor = 3 if axes == 2 and reduction == "sum" else 1  # of sums over elements
    assert value == pytest.approx(factor * expected, rel=1e-6)
    np.testing.assert_allclose(grad, factor * slope, rtol=1e-6)
    assert own(Y, X[:, :3], weights) == pytest.approx(value)
    images = RNG.standard_normal((7, 2, 3))
    value, grad = Square(1, reduction=reduction).value_and_gradient(
        0 * images, images, sample_weight=weights
    )
    flat = images.reshape(7, 6)
    expected, slope = theirs.value_and_gradient(0 * flat, flat, sample_weight=weights)
    assert value == pytest.approx(expected)
    np.testing.assert_allclose(grad.reshape(7, 6), slope)


def trained(loss: Any, **options: Any) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((5,)), Dense(4, "tanh"), Dense(3)])
    model.compile(SGD(0.1), loss, **options)
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0, sample_weight=np.arange(7.0))
    return model


def test_training_with_a_loss_of_the_user() -> None:
    own, theirs = trained(Square()), trained("mse")
    for a, b in zip(own.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    single = Sequential([Input((5,)), Dense(1)])
    single.compile("sgd", Square())
    assert single.evaluate(X, X[:, 0], verbose=0) == pytest.approx(
        np.mean((single.predict(X, verbose=0)[:, 0] - X[:, 0]) ** 2), rel=1e-5
    )


def quartic(y_true: Any, y_pred: Any) -> Any:
    return np.mean((y_pred - y_true) ** 4, axis=-1)


def test_losses_without_a_gradient() -> None:
    class Half(losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return quartic(y_true, y_pred)

    model = Sequential([Input((5,)), Dense(3)])
    model.compile("sgd", Half())
    assert model.evaluate(X, Y, verbose=0) > 0
    before = model.get_weights()
    with pytest.raises(NotImplementedError, match="Half must define `gradient`"):
        model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
    with pytest.raises(ValueError, match=r"a loss only with its gradient.*`quartic.gradient = "):
        model.compile("sgd", quartic)
    with pytest.raises(ValueError, match="`activation` must not be a plain function"):
        activations.get(quartic)
    with pytest.raises(ValueError, match=r"a regularizer only with its gradient"):
        Dense(2, kernel_regularizer=np.sum)


class WrongShapes(losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return (y_pred - y_true).mean() if self.name == "scalar" else y_pred.mean(axis=-1)

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred[:, :1]


def test_losses_of_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"`call` of the loss 'scalar' must return.*shape \(\)"):
        WrongShapes(name="scalar")(Y, Y)
    with pytest.raises(ValueError, match=r"`gradient` of the loss 'other' must have the shape"):
        WrongShapes(name="other").value_and_gradient(Y, Y)


def test_functions_with_their_gradients(tmp_path: Path) -> None:
    def loss(y_true: Any, y_pred: Any) -> Any:
        return np.mean((y_pred - y_true) ** 2, axis=-1)

    def penalty(x: Any) -> float:
        return float(0.1 * np.sum(x * x))

    loss.gradient = lambda y_true, y_pred: 2 * (y_pred - y_true) / 3  # type: ignore[attr-defined]
    penalty.gradient = lambda x: 0.2 * x  # type: ignore[attr-defined]
    utils.set_random_seed(1)
    own = Sequential([Input((5,)), Dense(3, kernel_regularizer=penalty)])
    utils.set_random_seed(1)
    theirs = Sequential([Input((5,)), Dense(3, kernel_regularizer=regularizers.L2(0.1))])
    for model, made in ((own, loss), (theirs, "mse")):
        model.compile(SGD(0.1), made)
        model.fit(X, Y, shuffle=False, verbose=0)
    np.testing.assert_allclose(own.get_weights()[0], theirs.get_weights()[0], rtol=1e-5)
    pytest.importorskip("h5py", reason="Keras' files are HDF5 files")
    own.save(tmp_path / "m.keras")
    given = {"loss": loss, "penalty": penalty}
    again = load_model(tmp_path / "m.keras", custom_objects=given)
    assert again.evaluate(X, Y, verbose=0) == pytest.approx(own.evaluate(X, Y, verbose=0))
    for name in given:
        with pytest.raises(ValueError, match=f"='{name}'.*|{name}"):
            load_model(tmp_path / "m.keras", {n: f for n, f in given.items() if n != name})


def test_regularizers_as_keras_has_them() -> None:
    class Cubic(regularizers.Regularizer):
        def __call__(self, x: Any) -> float:
            return float(np.sum(np.abs(x) ** 3))

        def gradient(self, x: Any) -> Any:
            return 3 * x * np.abs(x)

    model = Sequential([Input((5,)), Dense(3, use_bias=False, kernel_regularizer=Cubic())])
    model.compile(SGD(1.0), losses.MeanSquaredError())
    kernel = model.get_weights()[0]
    zeros = np.zeros((4, 5), np.float32)
    assert model.train_on_batch(zeros, np.zeros((4, 3))) == pytest.approx(
        np.sum(np.abs(kernel) ** 3), rel=1e-5
    )
    np.testing.assert_allclose(
        model.get_weights()[0], kernel - 3 * kernel * np.abs(kernel), rtol=1e-4, atol=1e-6
    )

    class NoGradient(regularizers.Regularizer):
        def __call__(self, x: Any) -> float:
            return 0.0

    model = Sequential([Input((5,)), Dense(3, kernel_regularizer=NoGradient())])
    model.compile("sgd", "mse")
    with pytest.raises(NotImplementedError, match="NoGradient must define `gradient`"):
        model.train_on_batch(X, Y)


def worst(y_true: Any, y_pred: Any) -> Any:
    return np.abs(y_true - y_pred).max(axis=-1)


class Above(metrics.Metric):
    """Keras' way to write a metric."""

    def __init__(self, name: str = "above", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.hits = self.add_weight(name="hits", initializer="zeros")
        self.seen = self.add_variable((), "zeros", name="seen")

    def update_state(self, *values: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = values
        self.hits.assign_add((y_pred > y_true).sum())
        self.seen.assign_add(y_true.size)

    def result(self) -> float:
        return float(self.hits) / max(float(self.seen), 1.0)


def test_metrics_of_the_user(tmp_path: Path) -> None:
    model = trained("mse", metrics=[worst, losses.mean_absolute_error, Above(dtype="float32")])
    assert model.metrics_names == ["loss", "worst", "mean_absolute_error", "above"]
    found = model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)
    predicted = model.predict(X, verbose=0)
    assert found["worst"] == pytest.approx(worst(Y, predicted).mean(), rel=1e-6)
    assert found["mean_absolute_error"] == pytest.approx(np.abs(Y - predicted).mean(), rel=1e-6)
    assert found["above"] == pytest.approx((predicted > Y).mean())
    model.evaluate(X, Y, batch_size=4, verbose=0)
    assert float(model.metrics[3].seen) == Y.size
    pytest.importorskip("h5py", reason="Keras' files are HDF5 files")
    for ending in (".keras", ".h5"):
        model.save(tmp_path / f"m{ending}")
        again = load_model(tmp_path / f"m{ending}", {"worst": worst, "Above": Above})
        assert again.evaluate(X, Y, verbose=0, return_dict=True) == pytest.approx(found)
        with pytest.raises(ValueError, match=r"cannot be read: .*metric='worst'"):
            load_model(tmp_path / f"m{ending}", {"Above": Above})
    whole = metrics.get(lambda y_true, y_pred: 2.0)
    whole.update_state(Y, Y)
    assert (whole.result(), whole.count) == (2.0, 7)
    with pytest.raises(ValueError, match="`dtype` must be float32 or float64"):
        Above(dtype="float16")


def test_initializers_and_constraints_of_the_user() -> None:
    def stairs(shape: Any, dtype: Any = None) -> Any:
        return np.arange(np.prod(shape), dtype=dtype).reshape(shape)

    layer = Dense(
        3,
        kernel_initializer=stairs,
        bias_initializer=np.ones,
        kernel_constraint=lambda w: np.clip(w, 0, 2),
        input_shape=(5,),
    )
    model = Sequential([layer])
    np.testing.assert_array_equal(layer.get_weights()[0], np.arange(15).reshape(5, 3))
    np.testing.assert_array_equal(layer.get_weights()[1], np.ones(3))
    model.compile(SGD(0.0), "mse")
    model.train_on_batch(X, Y)
    assert layer.get_weights()[0].max() == 2
    np.testing.assert_array_equal(clone_model(model).get_weights()[0], np.arange(15).reshape(5, 3))

    def wrong(shape: Any, dtype: Any = None) -> Any:
        return np.zeros(2)

    with pytest.raises(ValueError, match=r"initializer wrong must return .*Received: shape \(2,\)"):
        initializers.get(wrong)((3, 4))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("scale", (3,), "ones"), {}),
        (("scale", (3,), "float32", "ones"), {}),
        (("scale", (3,), None, "ones", None, True, "non_neg"), {}),
        (((3,), "ones"), {"name": "scale"}),
        (((3,), "ones", "float32", True, True, None, "non_neg", None, None, "scale"), {}),
        ((), {"name": "scale", "shape": (3,), "initializer": np.ones, "dtype": "float32"}),
        (("scale",), {"shape": 3, "initializer": "ones", "trainable": None}),
    ],
)
def test_orders_of_add_weight(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    layer = Layer()
    variable = layer.add_weight(*args, **kwargs)
    assert (variable.name, variable.shape, variable.trainable) == ("scale", (3,), True)
    np.testing.assert_array_equal(variable.value, 1)
    assert (variable.constraint is not None) == ("non_neg" in args)
    assert layer.weights == [variable]


def test_refusals_of_add_weight() -> None:
    layer = Layer()
    with pytest.raises(TypeError, match="two values for its argument `shape`"):
        layer.add_weight("a", (3,), shape=(4,))
    with pytest.raises(TypeError, match="no argument `regulariser`"):
        layer.add_weight((3,), regulariser="l2")
    with pytest.raises(TypeError, match="takes 3 arguments by position, name, shape, initializer"):
        layer.add_weight("a", (3,), "ones", "l2")
    with pytest.raises(TypeError, match="`shape` must be a tuple of integers"):
        layer.add_weight(shape="ones")
    with pytest.raises(ValueError, match=r"`dtype` of variable 'a' .* the layer's, float32"):
        layer.add_weight("a", (3,), "float64")
    assert not layer.weights
