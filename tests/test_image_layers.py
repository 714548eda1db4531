"""Convolution and pooling: plain loops in float64, gradients, shapes, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusednn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    Layer,
    MaxPooling2D,
)
from fusednn.models import Sequential
from fusednn.optimizers import SGD
from gradient_check import check_gradients, normal


def windows(x: np.ndarray, size: Any, strides: Any, padding: str, fill: float, dilation=(1, 1)):
    """Every window, by loops: (batch, rows, columns, height, width, channels)."""
    margins = [(0, 0)]
    for n, k, s, d in zip(x.shape[1:3], size, strides, dilation, strict=True):
        span = (k - 1) * d + 1
        missing = max(0, (math.ceil(n / s) - 1) * s + span - n) if padding == "same" else 0
        margins.append((missing // 2, missing - missing // 2))
    padded = np.pad(x, [*margins, (0, 0)], constant_values=fill)
    spans = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    rows, columns = (range(0, padded.shape[a + 1] - spans[a] + 1, strides[a]) for a in range(2))
    return np.array(
        [
            [
                padded[:, i : i + spans[0] : dilation[0], j : j + spans[1] : dilation[1]]
                for j in columns
            ]
            for i in rows
        ]
    ).transpose(2, 0, 1, 3, 4, 5)


GEOMETRIES = [
    {"size": (3, 3), "strides": (1, 1), "padding": "valid"},
    {"size": (3, 3), "strides": (1, 1), "padding": "same"},
    {"size": (2, 3), "strides": (2, 1), "padding": "same"},
    {"size": (3, 2), "strides": (2, 3), "padding": "valid"},
    {"size": (1, 1), "strides": (2, 2), "padding": "same"},
    {"size": (5, 4), "strides": (3, 2), "padding": "same"},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("shape", [(1, 5, 4, 1), (2, 7, 6, 3), (3, 8, 9, 2)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolution(geometry: dict[str, Any], shape: tuple[int, ...], dtype: str) -> None:
    size, strides, padding = geometry.values()
    x = normal(*shape)
    layer = Conv2D(4, size, strides, padding, bias_initializer="ones", dtype=dtype)
    y = layer(x)
    kernel, bias = layer.get_weights()
    seen = windows(x, size, strides, padding, 0.0)
    expected = np.einsum("nijhwc,hwcf->nijf", seen, kernel.astype(np.float64)) + bias
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    assert y.dtype == dtype
    assert y.shape[1:] == layer.compute_output_shape((None, *shape[1:]))[1:]


def test_dilated_convolution() -> None:
    x = normal(2, 9, 8, 3)
    layer = Conv2D(4, 3, padding="same", dilation_rate=2, use_bias=False, dtype="float64")
    y = layer(x)
    seen = windows(x, (3, 3), (1, 1), "same", 0.0, (2, 2))
    np.testing.assert_allclose(y, np.einsum("nijhwc,hwcf->nijf", seen, layer.get_weights()[0]))


def test_groups_are_convolutions_side_by_side() -> None:
    x = normal(2, 7, 6, 4).astype(np.float32)
    layer = Conv2D(6, 3, strides=2, padding="same", groups=2, bias_initializer="ones")
    y = layer(x)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (3, 3, 2, 6)
    for i in range(2):
        part = Conv2D(3, 3, strides=2, padding="same")
        part.build((None, 7, 6, 2))
        part.set_weights([kernel[..., 3 * i :][..., :3], bias[:3]])
        alone = part(np.ascontiguousarray(x[..., 2 * i :][..., :2]))
        np.testing.assert_allclose(y[..., 3 * i :][..., :3], alone, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="must have 4 channels in its last axis"):
        layer(x[..., :2])


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("shape", [(1, 5, 4, 1), (2, 7, 6, 3)], ids=str)
def test_pooling(geometry: dict[str, Any], shape: tuple[int, ...]) -> None:
    size, strides, padding = geometry.values()
    x = normal(*shape).astype(np.float32)
    largest = MaxPooling2D(size, strides, padding)(x)
    np.testing.assert_array_equal(
        largest, windows(x, size, strides, padding, -np.inf).max(axis=(3, 4))
    )
    mean = AveragePooling2D(size, strides, padding)(x)
    seen = windows(x, size, strides, padding, np.nan)
    np.testing.assert_allclose(mean, np.nanmean(seen, axis=(3, 4)), rtol=1e-5, atol=1e-6)


def test_global_average() -> None:
    x = normal(3, 4, 5, 2)
    np.testing.assert_allclose(GlobalAveragePooling2D(dtype="float64")(x), x.mean(axis=(1, 2)))
    np.testing.assert_array_equal(GlobalMaxPooling2D(dtype="float64")(x), x.max(axis=(1, 2)))
    kept = GlobalAveragePooling2D(keepdims=True, dtype="float64")
    assert kept(x).shape == (3, 1, 1, 2) == (3, *kept.compute_output_shape((None, 4, 5, 2))[1:])


STACKS: dict[str, Callable[[], list[Layer]]] = {
    "convolutions": lambda: [
        Conv2D(3, 3, activation="tanh", padding="same", dtype="float64"),
        Conv2D(2, (2, 3), strides=2, padding="same", dtype="float64"),
        Activation("gelu", dtype="float64"),
    ],
    "valid and dilated": lambda: [
        Conv2D(3, 2, dilation_rate=(2, 1), dtype="float64"),
        Conv2D(2, 2, strides=(1, 2), use_bias=False, dtype="float64"),
    ],
    "groups": lambda: [
        Conv2D(4, 3, activation="tanh", padding="same", dtype="float64"),
        Conv2D(6, (2, 3), strides=(2, 1), padding="same", groups=2, dtype="float64"),
        Conv2D(3, 2, groups=3, use_bias=False, dilation_rate=(1, 2), dtype="float64"),
    ],
    "frozen": lambda: [
        Conv2D(3, 2, dtype="float64"),
        Conv2D(2, 2, trainable=False, dtype="float64"),
    ],
    "max": lambda: [Conv2D(2, 2, dtype="float64"), MaxPooling2D(dtype="float64")],
    "max that overlaps": lambda: [
        Conv2D(2, 2, dtype="float64"),
        MaxPooling2D(3, 2, "same", dtype="float64"),
    ],
    "average": lambda: [
        Conv2D(2, 2, dtype="float64"),
        AveragePooling2D((2, 3), 2, "same", dtype="float64"),
    ],
    "global_max": lambda: [Conv2D(2, 2, dtype="float64"), GlobalMaxPooling2D(dtype="float64")],
    "global": lambda: [Conv2D(2, 2, dtype="float64"), GlobalAveragePooling2D(dtype="float64")],
}


@pytest.mark.parametrize("name", STACKS)
def test_gradients(name: str) -> None:
    head = [Flatten(dtype="float64"), Dense(3, "tanh", dtype="float64")]
    model = Sequential([Input((6, 5, 2)), *STACKS[name](), *head])
    for i, variable in enumerate(model.weights):
        variable.assign(0.5 * normal(*variable.shape, seed=i))
    model.compile(SGD(0.0), "mse")
    check_gradients(model, normal(4, 6, 5, 2, seed=5), normal(4, 3, seed=6))


def test_the_gradient_of_equal_maxima_goes_to_the_first() -> None:
    layer = MaxPooling2D(2)
    model = Sequential(
        [Input((2, 2, 1)), Conv2D(1, 1, kernel_initializer="zeros"), layer, Flatten()]
    )
    model.compile(SGD(0.0), "mse")
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    model.train_on_batch(x, np.array([[1.0]]))
    assert model.layers[0].kernel.grad.item() == 0  # all of it met x = 0
    model.train_on_batch(x + 1, np.array([[1.0]]))
    assert model.layers[0].kernel.grad.item() == -2


def test_a_small_network_learns_where_a_bright_pixel_is() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    x = 0.1 * rng.standard_normal((400, 8, 8, 1))
    for i, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        x[i, 4 * row + rng.integers(4), 4 * column + rng.integers(4), 0] += 3
    model = Sequential(
        [
            Input((8, 8, 1)),
            Conv2D(4, 3, padding="same", activation="relu"),
            MaxPooling2D(4),
            Flatten(),
            Dense(4, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 0.01
    model.fit(x, labels, epochs=15, verbose=0)
    assert model.evaluate(x, labels, verbose=0)[1] > 0.95


def image_model(data_format: str) -> Sequential:
    axis = 1 if data_format == "channels_first" else -1
    return Sequential(
        [
            Input((2, 9, 7) if axis == 1 else (9, 7, 2)),
            Conv2D(4, 3, padding="same", activation="tanh", data_format=data_format),
            BatchNormalization(axis=axis),
            MaxPooling2D((3, 2), 2, "same", data_format=data_format),
            Conv2D(3, 2, strides=(1, 2), data_format=data_format),
            AveragePooling2D(2, 1, "same", data_format=data_format),
            Flatten(data_format),
            Dense(3, activation="softmax"),
        ]
    )


def test_channels_first_is_channels_last_turned_around() -> None:
    """In training and after it."""
    x = normal(97, 9, 7, 2).astype(np.float32)
    labels = np.arange(97) % 3
    last, first = image_model("channels_last"), image_model("channels_first")
    first.set_weights(last.get_weights())
    turned = np.moveaxis(x, -1, 1)
    for model, data in ((last, x), (first, turned)):
        model.compile(SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
        model.fit(data, labels, batch_size=16, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(first.predict(turned, verbose=0), last.predict(x, verbose=0), 1e-5)
    for one, other in zip(first.get_weights(), last.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv2D(3, 2, padding="same", data_format="channels_first"),
        lambda: MaxPooling2D(2, 1, data_format="channels_first"),
        lambda: AveragePooling2D(2, 1, "same", data_format="channels_first"),
        lambda: GlobalAveragePooling2D("channels_first"),
        lambda: GlobalMaxPooling2D("channels_first"),
        lambda: GlobalMaxPooling2D("channels_first", keepdims=True),
        lambda: GlobalAveragePooling2D("channels_first", keepdims=True),
        lambda: Flatten("channels_first"),
    ],
)
def test_layers_with_channels_first(make: Callable[[], Layer]) -> None:
    layer = make()
    model = Sequential([Input((2, 4, 3)), Conv2D(3, 1, data_format="channels_first"), layer])
    assert layer.compute_output_shape((None, 3, 4, 3)) == model.output_shape
    again = type(layer).from_config(layer.get_config())
    assert again.get_config()["data_format"] == "channels_first"
    x = normal(2, 3, 4, 3)
    turned = type(layer).from_config(layer.get_config() | {"data_format": "channels_last"})
    want = turned(np.moveaxis(x, 1, -1))
    if layer.weights:
        turned.set_weights(layer.get_weights())
        want = turned(np.moveaxis(x, 1, -1))
    want = np.moveaxis(want, -1, 1) if want.ndim == 4 else want
    np.testing.assert_allclose(layer(x), want, rtol=1e-6, atol=1e-6)
    parts = [Conv2D(3, 1, data_format="channels_first"), layer, Flatten(), Dense(2)]
    wide = [type(part).from_config(part.get_config() | {"dtype": "float64"}) for part in parts]
    model = Sequential([Input((2, 4, 3)), *wide])
    model.compile(SGD(0.0), "mse")
    check_gradients(model, normal(3, 2, 4, 3), normal(3, 2, seed=1))


def test_flattened_vectors_stay_as_they_are() -> None:
    np.testing.assert_array_equal(Flatten("channels_first")(np.eye(3)), np.eye(3))
    assert Flatten("channels_first")(np.ones(3)).shape == (3, 1)
    assert Flatten("channels_first")(np.ones((0, 2, 3))).shape == (0, 6)


def test_configurations() -> None:
    for layer in (
        Conv2D(4, 2, groups=2),
        Conv2D(3, (2, 3), 2, "same", dilation_rate=1, activation="relu", kernel_regularizer="l2"),
        MaxPooling2D(3, 1, "same"),
        AveragePooling2D((2, 1)),
        GlobalAveragePooling2D(keepdims=True),
        GlobalMaxPooling2D("channels_first", True),
    ):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: Conv2D(0, 3), "`filters` must be a positive integer"),
    (lambda: Conv2D(2, 0), "`kernel_size` must be one or two positive integers"),
    (lambda: Conv2D(2, (1, 2, 3)), r"`kernel_size` must be .*=\(1, 2, 3\)"),
    (lambda: Conv2D(2, 3, strides=0), "`strides` must be one or two"),
    (lambda: Conv2D(2, 3, padding="full"), "`padding` must be 'valid' or 'same'"),
    (lambda: Conv2D(3, 3, groups=2), "`groups` must divide `filters`. Received: groups=2, filt"),
    (lambda: Conv2D(2, 3, groups=2)(np.ones((1, 4, 4, 3))), "must be a multiple of `groups`, 2"),
    (lambda: Conv2D(2, 3, data_format="NCHW"), "`data_format` must be 'channels_last' or 'ch"),
    (lambda: AveragePooling2D(data_format=1), "`data_format` must be .* Received: data_format=1"),
    (
        lambda: Conv2D(2, 3, data_format="channels_first")(np.ones((2, 3))),
        r"must have the axes \(batch, channels, rows, columns\)",
    ),
    (
        lambda: MaxPooling2D(4, data_format="channels_first")(np.ones((2, 9, 3, 5))),
        r"windows of layer .* must fit in its input. Received: input_shape=\(.*, 9, 3, 5\)",
    ),
    (lambda: Conv2D(2, 3)(np.ones((2, 3))), r"must have the axes \(batch, rows"),
    (lambda: Conv2D(2, 3)(np.ones((2, 2, 5, 1))), "windows of layer .* must fit"),
    (lambda: MaxPooling2D(4)(np.ones((2, 3, 5, 1))), "windows of layer .* 4 x 4, must fit"),
    (lambda: AveragePooling2D()(np.ones((2, 3))), r"must have the axes \(batch, rows"),
    (lambda: GlobalAveragePooling2D()(np.ones((2, 3))), r"must have the axes \(batch, rows"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_channels_of_a_built_layer() -> None:
    layer = Conv2D(2, 3)
    layer(np.ones((1, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"must have 3 channels in its last axis.*4\)"):
        layer(np.ones((1, 4, 4, 4)))
