"""Each layer against its formula in float64, and its gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import reference
from fusednn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    InputLayer,
    Layer,
    LeakyReLU,
    ReLU,
)
from fusednn.layers.dense import DenseStep
from fusednn.models import Sequential
from fusednn.optimizers import SGD
from gradient_check import check_stack, normal

FEATURES = 5


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


# ---- forward

FORMULAS: dict[str, tuple[Callable[..., Layer], Callable[[np.ndarray], np.ndarray]]] = {
    "leaky_relu": (LeakyReLU, lambda x: np.where(x > 0, x, 0.3 * x)),
    "leaky_relu_alpha": (
        lambda **k: LeakyReLU(alpha=0.1, **k),
        lambda x: np.where(x > 0, x, 0.1 * x),
    ),
    "relu": (ReLU, relu),
    "relu_slope": (
        lambda **k: ReLU(negative_slope=0.2, **k),
        lambda x: np.where(x > 0, x, 0.2 * x),
    ),
    "relu_bounded": (lambda **k: ReLU(max_value=0.5, **k), lambda x: np.clip(x, 0, 0.5)),
    "relu_all": (
        lambda **k: ReLU(1.0, 0.1, 0.25, **k),
        lambda x: np.where(x > 0.25, np.minimum(x, 1.0), 0.1 * (x - 0.25)),
    ),
    "activation_relu": (lambda **k: Activation("relu", **k), relu),
    "activation_leaky": (
        lambda **k: Activation("leaky_relu", **k),
        lambda x: np.where(x > 0, x, 0.2 * x),
    ),
    "activation_sigmoid": (lambda **k: Activation("sigmoid", **k), lambda x: 1 / (1 + np.exp(-x))),
    "activation_tanh": (lambda **k: Activation("tanh", **k), np.tanh),
    "activation_linear": (lambda **k: Activation("linear", **k), lambda x: x),
    "activation_softmax": (
        lambda **k: Activation("softmax", **k),
        lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True),
    ),
    "dropout_inference": (lambda **k: Dropout(0.5, **k), lambda x: x),
    "flatten": (Flatten, lambda x: x.reshape(len(x), -1)),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("shape", [(6, 5), (3, 2, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_formula(name: str, shape: tuple[int, ...], dtype: str) -> None:
    make, formula = FORMULAS[name]
    x = normal(*shape)
    before = x.copy()
    layer = make(dtype=dtype)
    y = layer(x)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(y, formula(x), rtol=tolerance, atol=tolerance)
    assert y.dtype == dtype
    assert y.shape[1:] == layer.compute_output_shape((None, *shape[1:]))[1:]
    np.testing.assert_array_equal(x, before)
    assert not np.may_share_memory(x, y)


@pytest.mark.parametrize("shape", [(6, 5), (3, 2, 4)], ids=str)
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_dense_forward(shape: tuple[int, ...], activation: str | None) -> None:
    x = normal(*shape)
    layer = Dense(7, activation=activation, bias_initializer="ones", dtype="float64")
    y = layer(x)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (shape[-1], 7)
    expected = x @ kernel + bias
    expected = {None: expected, "relu": relu(expected), "tanh": np.tanh(expected)}[activation]
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_dense_without_bias() -> None:
    layer = Dense(3, use_bias=False)
    layer(normal(2, 4))
    assert [v.name for v in layer.weights] == ["kernel"]
    assert layer.count_params() == 12


@pytest.mark.parametrize(
    ("shape", "axis"), [((6, 5), -1), ((6, 5), 1), ((4, 3, 5), 1), ((4, 3, 5), -1)]
)
@pytest.mark.parametrize(
    ("center", "scale"), [(True, True), (False, True), (True, False), (False, False)]
)
def test_batch_normalization_training_and_inference(
    shape: tuple[int, ...], axis: int, center: bool, scale: bool
) -> None:
    x = 2 + 3 * normal(*shape)
    channels = shape[axis]
    layer = BatchNormalization(
        axis, momentum=0.9, epsilon=1e-2, center=center, scale=scale, dtype="float64"
    )
    layer.build((None, *shape[1:]))
    random = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(random.uniform(0.5, 2, channels))
    gamma = layer.gamma.numpy() if scale else None
    beta = layer.beta.numpy() if center else None
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    channel_axis = axis % len(shape)

    inference = reference.batch_norm_inference(
        x, gamma, beta, mean, variance, eps=1e-2, channel_axis=channel_axis
    )
    np.testing.assert_allclose(layer(x), inference, rtol=1e-12)
    np.testing.assert_array_equal(layer.moving_mean, mean)

    y, batch_mean, inv_std = reference.batch_norm_forward(
        x, gamma, beta, eps=1e-2, channel_axis=channel_axis
    )
    np.testing.assert_allclose(layer(x, training=True), y, rtol=1e-10, atol=1e-12)
    batch_variance = inv_std**-2 - 1e-2
    np.testing.assert_allclose(layer.moving_mean, 0.9 * mean + 0.1 * batch_mean, rtol=1e-12)
    np.testing.assert_allclose(
        layer.moving_variance, 0.9 * variance + 0.1 * batch_variance, rtol=1e-12
    )


def test_batch_normalization_defaults_are_those_of_keras() -> None:
    layer = BatchNormalization()
    assert (layer.axis, layer.momentum, layer.epsilon) == (-1, 0.99, 1e-3)
    layer.build((None, 4))
    assert [v.name for v in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [v.name for v in layer.trainable_weights] == ["gamma", "beta"]
    assert [v.numpy().tolist() for v in layer.weights] == [[1] * 4, [0] * 4, [0] * 4, [1] * 4]


def test_frozen_batch_normalization_is_in_inference_mode() -> None:
    layer = BatchNormalization(trainable=False)
    x = 5 + normal(8, 3).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(3))
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 4


def test_dropout_scales_what_it_keeps() -> None:
    layer = Dropout(0.25, seed=3)
    y = layer(np.ones((200, 100)), training=True)
    assert np.allclose(y[y != 0], 1 / 0.75)
    assert abs((y == 0).mean() - 0.25) < 0.01
    assert not np.array_equal(y, layer(np.ones((200, 100)), training=True))
    again = Dropout(0.25, seed=3)(np.ones((200, 100)), training=True)
    np.testing.assert_array_equal(y, again)


def test_dropout_noise_shape_is_broadcast() -> None:
    y = Dropout(0.5, noise_shape=(None, 1), seed=0)(np.ones((50, 4)), training=True)
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(y, np.repeat(y[:, :1], 4, axis=1))


@pytest.mark.parametrize(("rate", "value"), [(0.0, 1.0), (1.0, 0.0)])
def test_dropout_extremes(rate: float, value: float) -> None:
    np.testing.assert_array_equal(
        Dropout(rate)(np.ones((3, 2)), training=True), np.full((3, 2), value)
    )


# ---- gradients

STACKS: dict[str, Callable[[], list[Layer]]] = {
    "dense": lambda: [],
    "dense_3d": lambda: [Dense(4, dtype="float64"), Flatten(dtype="float64")],
    "leaky_relu": lambda: [LeakyReLU(dtype="float64")],
    "relu_all": lambda: [ReLU(1.0, 0.1, 0.25, dtype="float64")],
    "tanh": lambda: [Activation("tanh", dtype="float64")],
    "two_activations": lambda: [
        Activation("sigmoid", dtype="float64"),
        Activation("tanh", dtype="float64"),
    ],
    "softmax_inside": lambda: [Activation("softmax", dtype="float64")],
    "batch_norm": lambda: [BatchNormalization(dtype="float64")],
    "batch_norm_plain": lambda: [BatchNormalization(center=False, scale=False, dtype="float64")],
    "batch_norm_leaky": lambda: [BatchNormalization(dtype="float64"), LeakyReLU(dtype="float64")],
    "batch_norm_relu": lambda: [
        BatchNormalization(dtype="float64"),
        Activation("relu", dtype="float64"),
    ],
    "batch_norm_tanh": lambda: [
        BatchNormalization(dtype="float64"),
        Activation("tanh", dtype="float64"),
    ],
    "batch_norm_leaky_twice": lambda: [
        BatchNormalization(dtype="float64"),
        LeakyReLU(dtype="float64"),
        LeakyReLU(dtype="float64"),
    ],
    "frozen_batch_norm_leaky": lambda: [
        BatchNormalization(trainable=False, dtype="float64"),
        LeakyReLU(dtype="float64"),
    ],
    "frozen_dense": lambda: [Dense(4, trainable=False, dtype="float64")],
    "dropout": lambda: [Dropout(0.4, dtype="float64")],
}


@pytest.mark.parametrize("name", STACKS)
def test_gradients_of_every_weight(name: str) -> None:
    check_stack(STACKS[name], (2, FEATURES) if name == "dense_3d" else (FEATURES,))


def test_wrong_gradients_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = DenseStep.backward

    def wrong(self: DenseStep, grad: np.ndarray) -> np.ndarray:
        grad = backward(self, grad)
        self.kernel.grad[0, 0] *= 1.001
        return grad

    monkeypatch.setattr(DenseStep, "backward", wrong)
    with pytest.raises(AssertionError, match=r"dense.*/kernel"):
        check_stack(lambda: [], (FEATURES,))


def test_dense_gradient_formula() -> None:
    model = Sequential([Dense(3, dtype="float64", input_dim=5)])
    model.compile(SGD(0.0), "mse")
    x, y = normal(7, 5), normal(7, 3, seed=1)
    model.train_on_batch(x, y)
    kernel, bias = model.get_weights()
    grad = 2 * (x @ kernel + bias - y) / y.size
    np.testing.assert_allclose(model.weights[0].grad, x.T @ grad, rtol=1e-12)
    np.testing.assert_allclose(model.weights[1].grad, grad.sum(axis=0), rtol=1e-12)


def test_bias_before_batch_normalization_counts_in_the_moving_mean_only() -> None:
    model = Sequential(
        [Input((5,)), Dense(4, dtype="float64"), BatchNormalization(dtype="float64")]
    )
    model.compile(SGD(0.1), "mse")
    dense, norm = model.layers
    dense.bias.assign([1.0, -2.0, 3.0, 0.5])
    x, y = normal(8, 5), normal(8, 4, seed=1)
    hidden = x @ dense.kernel.value + dense.bias.value
    bias = dense.bias.numpy()
    model.train_on_batch(x, y)
    np.testing.assert_allclose(norm.moving_mean, 0.01 * hidden.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(norm.moving_variance, 0.99 + 0.01 * hidden.var(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(dense.bias, bias)
    # In inference the bias is there.
    expected = (x @ dense.kernel.value + bias - norm.moving_mean) / np.sqrt(
        norm.moving_variance.value + 1e-3
    )
    expected = expected * norm.gamma.value + norm.beta.value
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-12)


# ---- configuration, names and errors


@pytest.mark.parametrize(
    "layer",
    [
        Dense(3, "tanh", use_bias=False, kernel_initializer="he_normal", trainable=False),
        BatchNormalization(1, 0.8, 1e-4, center=False, gamma_initializer="zeros"),
        LeakyReLU(0.05),
        ReLU(6.0, 0.1, 0.5),
        Activation("sigmoid"),
        Dropout(0.3, noise_shape=(None, 1), seed=4),
        Flatten(),
        InputLayer((3, 2), batch_size=4, dtype="uint8"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer: Layer) -> None:
    config = layer.get_config()
    copy = type(layer).from_config(config)
    assert copy is not layer
    assert copy.get_config() == config
    assert copy.name == layer.name


def test_automatic_names_are_those_of_keras() -> None:
    assert Dense(1).name.startswith("dense")
    assert LeakyReLU().name.startswith("leaky_re_lu")
    assert ReLU().name.startswith("re_lu")
    assert BatchNormalization().name.startswith("batch_normalization")
    assert InputLayer((2,)).name.startswith("input_layer")
    first, second = Flatten(), Flatten()
    assert first.name != second.name
    assert Dense(1, name="mine").name == "mine"


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Dense(0), ValueError, r"`units` must be a positive integer\. Received: units=0"),
    (lambda: Dense(2.5), ValueError, r"`units` must be a positive integer\. Received: units=2\.5"),
    (lambda: Dense(2, activation="nope"), ValueError, r"activation.*nope"),
    (lambda: Dense(2, dtype="float16"), ValueError, r"`dtype` must be float32 or float64.*float16"),
    (lambda: Dense(2, input_shape=(0,)), ValueError, r"`input_shape` must hold positive integers"),
    (lambda: Dense(2, kernel_regularizer="l3"), ValueError, "`regularizer` must be .*'l3'"),
    (lambda: Dense(2, kernel_constraint="l2"), ValueError, "`constraint` must be .*'l2'"),
    (lambda: Dense(2, kernel_regulariser="l2"), TypeError, "kernel_regulariser"),
    (
        lambda: BatchNormalization(momentum=1.5),
        ValueError,
        r"`momentum` must be in \[0, 1\]\. Received: momentum=1\.5",
    ),
    (
        lambda: BatchNormalization(momentum=float("nan")),
        ValueError,
        r"`momentum` must be in \[0, 1\]\. Received: momentum=nan",
    ),
    (
        lambda: BatchNormalization(epsilon=-1e-3),
        ValueError,
        r"`epsilon` must be .* >= 0\. Received: epsilon=-0\.001",
    ),
    (
        lambda: BatchNormalization(axis=0)(np.ones((2, 3))),
        ValueError,
        r"`axis` of layer .* Received: axis=0, input of rank 2",
    ),
    (
        lambda: BatchNormalization(axis=2)(np.ones((2, 3))),
        ValueError,
        r"`axis` of layer .* Received: axis=2, input of rank 2",
    ),
    (
        lambda: LeakyReLU(-0.1),
        ValueError,
        r"`negative_slope` must be .* >= 0\. Received: negative_slope=-0\.1",
    ),
    (
        lambda: ReLU(max_value=-1),
        ValueError,
        r"`max_value` must be .* >= 0\. Received: max_value=-1",
    ),
    (
        lambda: ReLU(threshold=-1),
        ValueError,
        r"`threshold` must be .* >= 0\. Received: threshold=-1",
    ),
    (lambda: Dropout(1.5), ValueError, r"`rate` must be in \[0, 1\]\. Received: rate=1\.5"),
    (
        lambda: Dropout(0.5, noise_shape=(1,))(np.ones((2, 3)), training=True),
        ValueError,
        r"`noise_shape` of layer",
    ),
    (
        lambda: Dropout(0.5, noise_shape=(2, 2))(np.ones((2, 3)), training=True),
        ValueError,
        r"`noise_shape` of layer",
    ),
    (
        lambda: Flatten("first"),
        ValueError,
        r"`data_format` must be 'channels_last' or 'channels_first'",
    ),
    (lambda: Input((None, 3)), ValueError, r"`shape` must hold positive integers.*None"),
    (lambda: Input(), ValueError, r"Exactly one of `shape` and `batch_shape`"),
    (lambda: Dense(2).count_params(), ValueError, r"must be built before its parameters"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[m[:40] for *_, m in BAD])
def test_bad_arguments(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_input_that_does_not_fit_a_built_layer() -> None:
    dense, norm = Dense(2, name="d"), BatchNormalization(name="n")
    dense(np.ones((1, 3)))
    norm(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"layer 'd' must have 3 features.*\(None, 4\)"):
        dense(np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"layer 'n' must have 3 channels.*\(None, 4\)"):
        norm(np.ones((1, 4)))


def test_set_weights_all_or_nothing() -> None:
    layer = Dense(2, name="d")
    layer.build((None, 3))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=r"`weights` must hold 2 arrays.*Received: 1 arrays"):
        layer.set_weights([np.ones((3, 2))])
    with pytest.raises(ValueError, match=r"shape \(2,\) for 'd/bias'.*Received.*\(3,\)"):
        layer.set_weights([np.ones((3, 2)), np.ones(3)])
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    layer.set_weights([np.full((3, 2), 2), [1, 2]])
    assert layer.kernel.numpy().tolist() == [[2, 2]] * 3
    assert layer.get_weights()[1].tolist() == [1, 2]


def test_options_of_keras_that_are_absent_are_refused_by_name() -> None:
    BatchNormalization(renorm=False, synchronized=False, renorm_clipping=None)
    Dense(3, lora_rank=None, quantization_config=None)
    with pytest.raises(ValueError, match=r"`renorm` must be off.*recalibrate_batch_norm"):
        BatchNormalization(renorm=True)
    with pytest.raises(ValueError, match=r"`synchronized` must be off.*one process.*=True"):
        BatchNormalization(synchronized=True)
    for layer in (lambda **k: Dense(3, **k), lambda **k: Conv2D(3, 2, **k)):
        with pytest.raises(ValueError, match=r"`lora_rank` must be off.*Received: lora_rank=4"):
            layer(lora_rank=4)
    with pytest.raises(TypeError, match=r"unknown"):
        BatchNormalization(unknown=None)
