"""Convolution, pooling, scaling and noise layers against real Keras."""

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

FIRST = {"data_format": "channels_first"}
LAYERS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("Conv2D", (2, 7, 6, 3), {"filters": 4, "kernel_size": 3}),
    ("Conv2D", (2, 7, 6, 3), {"filters": 4, "kernel_size": (2, 3), "padding": "same"}),
    ("Conv2D", (2, 7, 6, 3), {"filters": 4, "kernel_size": 4, "strides": 2, "padding": "same"}),
    ("Conv2D", (2, 9, 9, 3), {"filters": 4, "kernel_size": 3, "dilation_rate": 2}),
    ("Conv2D", (2, 5, 5, 1), {"filters": 2, "kernel_size": 1, "activation": "gelu"}),
    ("Conv2D", (2, 7, 6, 4), {"filters": 6, "kernel_size": 3, "groups": 2, "strides": 2}),
    ("Conv2D", (2, 7, 6, 3), {"filters": 3, "kernel_size": 2, "groups": 3, "padding": "same"}),
    ("Conv2D", (2, 4, 7, 6), FIRST | {"filters": 2, "kernel_size": 3, "groups": 2}),
    ("MaxPooling2D", (2, 7, 6, 3), {}),
    ("MaxPooling2D", (2, 7, 6, 3), {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("MaxPool2D", (2, 7, 6, 3), {"pool_size": (2, 1)}),
    ("AveragePooling2D", (2, 7, 6, 3), {"pool_size": 2}),
    ("AveragePooling2D", (2, 7, 6, 3), {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("GlobalAveragePooling2D", (2, 7, 6, 3), {}),
    ("GlobalMaxPooling2D", (2, 7, 6, 3), {}),
    ("GlobalMaxPooling2D", (2, 3, 7, 6), FIRST | {"keepdims": True}),
    ("GlobalAveragePooling2D", (2, 7, 6, 3), {"keepdims": True}),
    ("Conv2D", (2, 3, 7, 6), FIRST | {"filters": 4, "kernel_size": 3, "activation": "softmax"}),
    ("Conv2D", (2, 3, 7, 6), FIRST | {"filters": 4, "kernel_size": 4, "strides": 2}),
    ("MaxPooling2D", (2, 3, 7, 6), FIRST | {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("AveragePooling2D", (2, 3, 7, 6), FIRST | {"pool_size": (2, 3), "padding": "same"}),
    ("GlobalAveragePooling2D", (2, 3, 7, 6), FIRST),
    ("GlobalAveragePooling2D", (2, 3, 7, 6), FIRST | {"keepdims": True}),
    ("Flatten", (2, 3, 7, 6), FIRST),
    ("Flatten", (2, 3), FIRST),
    ("Reshape", (2, 6, 4), {"target_shape": (3, -1)}),
    ("Rescaling", (2, 6, 4), {"scale": 0.5, "offset": -1.0}),
    ("Normalization", (2, 6, 4), {"mean": 1.5, "variance": 4.0}),
    ("Normalization", (2, 6, 4), {"axis": 1}),
    ("Normalization", (2, 6, 4), {"axis": None, "mean": 0.5, "variance": 0.25, "invert": True}),
    ("PReLU", (2, 6, 4), {"alpha_initializer": "ones", "shared_axes": [1]}),
    ("ELU", (2, 6, 4), {"alpha": 0.5}),
    ("Softmax", (2, 6, 4), {}),
    ("GaussianNoise", (2, 6, 4), {"stddev": 0.5}),
    ("GaussianDropout", (2, 6, 4), {"rate": 0.5}),
    ("AlphaDropout", (2, 6, 4), {"rate": 0.5}),
    ("ActivityRegularization", (2, 6, 4), {"l1": 0.5}),
]


def numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


@pytest.mark.parametrize(("name", "shape", "options"), LAYERS)
def test_inference(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    open_shape = (None, *shape[1:])
    ours, theirs = (getattr(library, name)(**options) for library in (layers, keras.layers))
    ours.build(open_shape)
    theirs.build(open_shape)
    if "axis" in options and "mean" not in options:
        data = rng.standard_normal((50, *shape[1:])).astype(np.float32)
        ours.adapt(data)
        theirs.adapt(data)
    elif ours.weights:
        ours.set_weights([0.5 * rng.standard_normal(v.shape) for v in ours.weights])
        theirs.set_weights([numpy(w) for w in ours.get_weights()])
    assert [(v.name, v.shape) for v in ours.weights] == [
        (v.name, tuple(v.shape)) for v in theirs.weights
    ]
    x = rng.standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(ours(x), numpy(theirs(x)), rtol=1e-5, atol=1e-5)
    assert ours.compute_output_shape(open_shape) == theirs.compute_output_shape(open_shape)
    assert ours.count_params() == theirs.count_params()
    config = theirs.get_config()
    assert set(ours.get_config()) <= set(config) | {"dtype"}
    defaults = type(ours).from_config({k: v for k, v in config.items() if k != "dtype"})
    assert defaults.get_config().keys() == ours.get_config().keys()


@pytest.mark.parametrize("pool", ["MaxPooling2D", "AveragePooling2D"])
def test_training(pool: str) -> None:
    def architecture(library: Any) -> list[Any]:
        return [
            library.Rescaling(0.5),
            library.Conv2D(6, 3, padding="same", use_bias=False),
            library.BatchNormalization(),
            library.LeakyReLU(),
            getattr(library, pool)(3, 2, "same"),
            library.Conv2D(4, 2, strides=2, activation="silu", kernel_regularizer="l2", groups=2),
            library.PReLU(shared_axes=[1, 2]),
            library.GlobalAveragePooling2D(),
            library.Dense(3, activation="softmax"),
        ]

    keras.utils.set_random_seed(1)
    theirs = keras.Sequential([keras.Input((8, 7, 2)), *architecture(keras.layers)])
    ours = models.Sequential([layers.Input((8, 7, 2)), *architecture(layers)])
    ours.set_weights(theirs.get_weights())
    ours.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    theirs.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50 * 8, 8, 7, 2)).astype(np.float32)
    y = rng.integers(0, 3, 50 * 8)
    settings = {"batch_size": 8, "shuffle": False, "verbose": 0}
    own = ours.fit(x, y, **settings).history["loss"]
    their = theirs.fit(x, y, **settings).history["loss"]
    # Sums over windows in another order: some outputs fall on the other side of a rectifier's kink.
    tolerance = 1e-5 if pool == "MaxPooling2D" else 1e-3
    np.testing.assert_allclose(own, their, rtol=min(tolerance, 1e-4))
    np.testing.assert_allclose(
        ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=tolerance, atol=tolerance
    )
