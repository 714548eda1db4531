"""Layers that are activations: formulas, gradients inside a model, configuration, refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fusednn import activations
from fusednn.layers import ELU, Activation, Dense, Layer, PReLU, Softmax
from fusednn.layers.activation import ActivationStep
from fusednn.models import Sequential
from gradient_check import check_stack, normal

NAMES = sorted(
    name
    for name in activations.__all__
    if isinstance(getattr(activations, name), activations.Activation)
)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_as_a_layer_and_in_a_dense_layer(name: str) -> None:
    x = normal(7, 5)
    expected = activations.get(name)(x)
    np.testing.assert_array_equal(Activation(name, dtype="float64")(x), expected)
    identity = Dense(5, name, kernel_initializer="zeros", dtype="float64")
    identity.build((None, 5))
    identity.kernel.assign(np.eye(5))
    np.testing.assert_array_equal(identity(x), expected)
    assert type(identity).from_config(identity.get_config()).activation.name == (
        activations.get(name).name
    )


STACKS: dict[str, Callable[[], list[Layer]]] = {
    "elu": lambda: [ELU(0.7, dtype="float64")],
    "softmax": lambda: [Softmax(dtype="float64")],
    "prelu": lambda: [PReLU("ones", dtype="float64")],
    "prelu_frozen": lambda: [PReLU("ones", trainable=False, dtype="float64")],
    "gelu_twice": lambda: [
        Activation("gelu", dtype="float64"),
        Activation("gelu", dtype="float64"),
    ],
    "mish_then_tanh": lambda: [
        Activation("mish", dtype="float64"),
        Activation("tanh", dtype="float64"),
    ],
} | {
    name: lambda name=name: [Activation(name, dtype="float64")]
    for name in ("silu", "softplus", "celu", "tanh_shrink", "log_softmax", "softsign")
}


@pytest.mark.parametrize("name", STACKS)
def test_gradients(name: str) -> None:
    check_stack(STACKS[name], (5,))


@pytest.mark.parametrize("axes", [None, 1, [1], [2], [1, 2]], ids=str)
def test_gradients_of_shared_slopes(axes: list[int] | int | None) -> None:
    check_stack(lambda: [PReLU("ones", shared_axes=axes, dtype="float64")], (3, 5))


@pytest.mark.parametrize("axis", [1, 2, -2, (1, 2), [-1]], ids=str)
def test_softmax_over_other_axes(axis: int | list[int]) -> None:
    x = normal(4, 3, 5)
    y = Softmax(axis, dtype="float64")(x)
    along = tuple(axis) if isinstance(axis, list) else axis
    np.testing.assert_allclose(y.sum(axis=along), 1, rtol=1e-12)
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis=along, keepdims=True), rtol=1e-12)
    check_stack(lambda: [Softmax(axis, dtype="float64")], (3, 5))
    made = activations.LogSoftmax(axis)
    check_stack(lambda: [Activation(made, dtype="float64")], (3, 5))
    layer = Softmax(axis)
    assert Softmax.from_config(layer.get_config()).axis == layer.axis


def test_losses_take_logits_of_the_last_axis_alone() -> None:
    x, classes = normal(8, 4).astype(np.float32), np.arange(8) % 3
    values = []
    for axis in (-1, 1, 0):
        model = Sequential([Dense(3, input_dim=4, use_bias=False), Softmax(axis)])
        model.set_weights([normal(4, 3, seed=1)])
        model.compile(loss="sparse_categorical_crossentropy")
        p = model.predict(x, batch_size=8, verbose=0)
        np.testing.assert_allclose(p.sum(axis=axis), 1, rtol=1e-5)
        values.append(model.evaluate(x, classes, batch_size=8, verbose=0))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert not np.isclose(values[2], values[0], rtol=1e-2)


def test_only_what_needs_its_input_keeps_it() -> None:
    for name in NAMES:
        model = Sequential([Dense(4, name, input_dim=3)])
        step = model._plan(5, training=True)._forward_steps[-1]
        if isinstance(step, ActivationStep):
            assert step.in_place != step.activation.needs_input, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (97, 3, 4)], ids=str)
def test_prelu_formula(shape: tuple[int, ...], dtype: str) -> None:
    layer = PReLU("random_normal", dtype=dtype)
    x = normal(*shape).astype(dtype)
    y = layer(x)
    (alpha,) = layer.get_weights()
    assert alpha.shape == shape[1:]
    np.testing.assert_allclose(y, np.where(x > 0, x, alpha * x), rtol=1e-6)


def test_prelu_shares_slopes_of_axes_of_unknown_length() -> None:
    layer = PReLU("ones", shared_axes=[1])
    layer.build((None, None, 5))
    assert layer.alpha.shape == (1, 5)
    assert layer.compute_output_shape((None, 9, 5)) == (None, 9, 5)
    np.testing.assert_array_equal(layer(-np.ones((2, 3, 5))), -np.ones((2, 3, 5)))


def test_layers_are_those_of_their_configuration() -> None:
    for layer in (ELU(0.5), Softmax(), PReLU("ones", shared_axes=[1, 2], name="mine")):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"`alpha` must be .* >= 0\. Received: alpha=-1"):
        ELU(-1)
    with pytest.raises(
        ValueError, match=r"`axis` of layer .* shape \(None, 3\)\. Received: axis=2"
    ):
        Softmax(axis=2)(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"`axis` must be an integer\. Received: axis='a'"):
        Softmax(axis="a")
    with pytest.raises(TypeError, match=r"`shared_axes` must be an integer or a list .*'a'"):
        PReLU(shared_axes="a")
    with pytest.raises(ValueError, match=r"`shared_axes` of layer .* Received: \[0\]"):
        PReLU(shared_axes=[0]).build((None, 3))
    with pytest.raises(ValueError, match=r"`shared_axes` of layer .* Received: \[2\]"):
        PReLU(shared_axes=[1, 2]).build((None, 3))
    with pytest.raises(ValueError, match=r"Axis 1 of the input .* known length"):
        PReLU().build((None, None, 3))
    layer = PReLU()
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r"must fit alpha, of shape \(3,\)"):
        layer(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"must fit alpha, of shape \(3,\)"):
        layer(np.ones((2, 3, 3)))
