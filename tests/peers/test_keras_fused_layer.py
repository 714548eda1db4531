"""BatchNorm with leaky ReLU as a layer of Keras, beside Keras' two layers on the same backend.

Runs on the backend that KERAS_BACKEND names; test_keras_backends.py starts it on the others.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of backends without kernels; test_keras_backends.py asks
    import fusednn.keras as fk

layers, ops = keras.layers, keras.ops
BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:fusednn.keras has no kernels:UserWarning"),
]
needs_kernels = pytest.mark.skipif(
    not fk.kernels_are_used("layers"), reason="Keras itself computes on this backend"
)


def pair(negative_slope=0.3, **options):
    """The fused layer and Keras' two, with the same weights, which are no constants."""
    random = {
        f"{name}_initializer": keras.initializers.RandomUniform(0.5, 1.5, seed=seed)
        for seed, name in enumerate(("beta", "gamma", "moving_mean", "moving_variance"))
    }
    options = random | options
    own = fk.BatchNormalizationLeakyReLU(negative_slope=negative_slope, **options)
    dtype = options.get("dtype")
    activation = layers.LeakyReLU(negative_slope, dtype=dtype)
    return own, keras.Sequential([layers.BatchNormalization(**options), activation])


def numpy(x):
    short = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    x = ops.cast(x, "float32") if short else ops.convert_to_tensor(x)
    return np.asarray(ops.convert_to_numpy(x))


def gradients(layer, x, grad, **call):
    """y, the gradients of x and of the trainable weights, and the new moving statistics."""
    layer.build(x.shape)
    if BACKEND == "torch":
        import torch

        leaf = ops.convert_to_tensor(x).requires_grad_()
        y = layer(leaf, **call)
        weights = [w.value for w in layer.trainable_weights]
        found = torch.autograd.grad(y, [leaf, *weights], ops.convert_to_tensor(grad))
        moving = [w.value for w in layer.non_trainable_weights]
        return [numpy(t.detach()) for t in (y, *found, *moving)]
    import jax

    trainable = [w.value for w in layer.trainable_weights]
    fixed = [w.value for w in layer.non_trainable_weights]

    def function(x, trainable):
        return layer.stateless_call(trainable, fixed, x, **call)

    y, back, moving = jax.vjp(function, ops.convert_to_tensor(x), trainable, has_aux=True)
    grad_x, weights = back(ops.convert_to_tensor(grad))
    return [numpy(t) for t in (y, grad_x, *weights, *moving)]


def skip_without(dtype):
    if dtype == "float64" and BACKEND == "jax":
        pytest.skip("JAX has float64 only where it is enabled for the whole process")


def compare(found, expected, tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        scale = max(np.abs(other).max(initial=0), 1)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


CASES = [
    ((16, 7), -1),
    ((97, 5), 1),
    ((1, 3), -1),
    ((4, 6, 5, 3), -1),
    ((4, 3, 6, 5), 1),
    ((2, 5, 3, 4), 2),
    ((7, 5), 0),
    ((3, 2, 4, 2, 3), -1),
]
if BACKEND == "jax":  # which compiles a program for each
    CASES = CASES[1::2]


@needs_kernels
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_values_gradients_and_moving_statistics(rng, shape, axis, training):
    x, grad = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    own, theirs = pair(axis=axis)
    compare(
        gradients(own, x, grad, training=training),
        gradients(theirs, x, grad, training=training),
        1e-5 if shape[0] > 1 else 1e-4,
    )


@needs_kernels
@pytest.mark.parametrize(
    "options",
    [
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
        {"negative_slope": 0.0},
        {"momentum": 0.5, "epsilon": 0.1},
        {"momentum": 0.0},
        {"momentum": 1.0},
    ],
    ids=str,
)
def test_options(rng, options):
    x, grad = (2 + rng.standard_normal((9, 5)).astype(np.float32) for _ in range(2))
    for training in (True, False):
        own, theirs = pair(**options)
        found = gradients(own, x, grad, training=training)
        compare(found, gradients(theirs, x, grad, training=training), 1e-5)


@needs_kernels
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float64", 1e-6), ("bfloat16", 0.03), ("float16", 4e-3), ("mixed_bfloat16", 0.03)],
)
@pytest.mark.parametrize("training", [True, False])
def test_dtype_policies(rng, dtype, tolerance, training):
    skip_without(dtype)
    x, grad = (rng.standard_normal((64, 7)) for _ in range(2))
    own, theirs = pair(dtype=dtype)
    short = own.compute_dtype
    cast = [ops.cast(t, short) for t in (x, grad)]
    found = gradients(own, *cast, training=training)
    compare(found, gradients(theirs, *cast, training=training), tolerance)
    assert keras.backend.standardize_dtype(own(x).dtype) == short
    assert {w.dtype for w in own.weights} == {theirs.weights[0].dtype}


@pytest.mark.parametrize("dtype", ["int32", "float64", "uint8"])
def test_inputs_of_other_types_become_those_of_the_layer(rng, dtype):
    skip_without(dtype)
    x = (10 * rng.standard_normal((8, 3))).astype(dtype)
    for autocast in (True, False):
        own, theirs = pair(autocast=autocast)
        for layer in (own, theirs):
            layer.build(x.shape)
        tensor = ops.convert_to_tensor(x, dtype)
        y = own(tensor, training=True)
        assert keras.backend.standardize_dtype(y.dtype) == "float32"
        compare([numpy(y)], [numpy(theirs(tensor, training=True))], 1e-5)


def test_a_mask_leaves_elements_out(rng):
    x = rng.standard_normal((6, 4, 3)).astype(np.float32)
    mask = ops.convert_to_tensor(rng.random((6, 4)) < 0.6)
    own, theirs = pair()
    norm, activation = theirs.layers
    for layer in (own, theirs):
        layer.build(x.shape)
    y = own(x, training=True, mask=mask)
    compare([numpy(y)], [numpy(activation(norm(x, training=True, mask=mask)))], 1e-5)
    moving = [[numpy(w) for w in layer.non_trainable_weights] for layer in (own, norm)]
    compare(*moving, 1e-5)
    with pytest.raises(ValueError, match="mask provided should be one dimension less"):
        own(x, training=True, mask=mask[0])


def test_a_frozen_layer_uses_moving_statistics_and_leaves_them(rng):
    x = rng.standard_normal((6, 3)).astype(np.float32)
    own, _ = pair()
    own.build(x.shape)
    before, expected = [numpy(w) for w in own.weights], numpy(own(x, training=False))
    own.trainable = False
    np.testing.assert_array_equal(numpy(own(x, training=True)), expected)
    for weight, value in zip(own.weights, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), value)
    own.trainable = True
    assert np.abs(numpy(own(x, training=True)) - expected).max() > 0.1


def test_a_stateless_call_changes_nothing(rng):
    x = rng.standard_normal((6, 3)).astype(np.float32)
    own, theirs = pair()
    results = []
    for layer in (own, theirs):
        layer.build(x.shape)
        before = [numpy(w) for w in layer.weights]
        values = [[w.value for w in ws] for ws in (layer.trainable_weights, own.weights[2:])]
        y, moving = layer.stateless_call(*values, x, training=True)
        for weight, value in zip(layer.weights, before, strict=True):
            np.testing.assert_array_equal(numpy(weight), value)
        results.append([numpy(y), *map(numpy, moving)])
    compare(*results, 1e-5)


def test_no_rows_and_one():
    own, _ = pair()
    own.build((None, 3))
    assert own(np.zeros((0, 3), np.float32)).shape == (0, 3)
    y = own(np.ones((1, 3), np.float32), training=True)
    np.testing.assert_allclose(numpy(y)[0], numpy(own.beta), atol=1e-5)  # TensorFlow's own


def test_shapes_are_found_without_values():
    inputs = keras.Input((5, 4))
    outputs = fk.BatchNormalizationLeakyReLU()(inputs)
    assert outputs.shape == (None, 5, 4)
    assert own_shape((2, 3)) == (2, 3)

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = fk.BatchNormalizationLeakyReLU()

        def call(self, x):
            return self.norm(x)

    assert Model()(keras.Input((7,))).shape == (None, 7)


def own_shape(shape):
    return fk.BatchNormalizationLeakyReLU().compute_output_shape(shape)


def test_config_and_serialisation():
    own, _ = pair(0.125, axis=1, momentum=0.5, epsilon=0.25, center=False, name="fused")
    config = own.get_config()
    assert config["negative_slope"] == 0.125
    assert not {"renorm", "renorm_clipping", "renorm_momentum"} & set(config)
    for copy in (
        fk.BatchNormalizationLeakyReLU.from_config(config),
        keras.layers.deserialize(keras.layers.serialize(own)),
    ):
        assert type(copy) is fk.BatchNormalizationLeakyReLU
        assert copy.get_config() == config
    assert isinstance(own, layers.BatchNormalization)
    assert keras.saving.get_registered_name(type(own)) == "fusednn>BatchNormalizationLeakyReLU"


@pytest.mark.parametrize("slope", [-0.1, float("nan"), float("inf")])
def test_a_slope_out_of_range_is_refused(slope):
    with pytest.raises(ValueError, match=r"`negative_slope` must be a finite number >= 0\. Rec"):
        fk.BatchNormalizationLeakyReLU(negative_slope=slope)


def test_other_refusals():
    with pytest.raises(TypeError, match=r"`negative_slope` must be a number. Received.*None"):
        fk.BatchNormalizationLeakyReLU(negative_slope=None)
    with pytest.raises(ValueError, match=r"`renorm` must be False: .*Received: renorm=True"):
        fk.BatchNormalizationLeakyReLU(renorm=True)
    if BACKEND != "tensorflow":
        with pytest.raises(ValueError, match="synchronized"):
            fk.BatchNormalizationLeakyReLU(synchronized=True)
    with pytest.raises(ValueError, match="speed"):
        fk.BatchNormalizationLeakyReLU(speed=2)
