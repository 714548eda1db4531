"""Whole models of Keras with the layer and the optimizers of `fusednn.keras`: fit, files, convert.

Runs on the backend that KERAS_BACKEND names; test_keras_backends.py starts it on the others.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")
import fusednn.keras as fk  # noqa: E402  needs Keras

layers = keras.layers
BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:fusednn.keras has no kernels:UserWarning"),
]
needs_kernels = pytest.mark.skipif(
    not fk.kernels_are_used("optimizers"), reason="Keras itself computes on this backend"
)
needs_fit = pytest.mark.skipif(BACKEND == "numpy", reason="this backend has no gradients")


def sequential(**options):
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, use_bias=False),
            layers.BatchNormalization(**options),
            layers.LeakyReLU(0.1),
            layers.Dense(8, use_bias=False),
            layers.BatchNormalization(center=False),
            layers.Activation("relu"),
            layers.Dense(3),
        ]
    )


def functional():
    """Images; a branch; an activation that is not after its BatchNormalization alone."""
    inputs = keras.Input((6, 6, 2), name="images")
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(inputs)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="norm1")(x))
    y = layers.Conv2D(4, 3, padding="same", name="conv2")(x)
    y = layers.BatchNormalization(name="norm2")(y)
    y = layers.LeakyReLU(0.2, name="relu2")(layers.add([x, y]))
    z = layers.Flatten()(y)
    head = keras.Sequential(
        [
            keras.Input((144,)),
            layers.Dense(5, name="dense"),
            layers.BatchNormalization(name="norm"),
            layers.LeakyReLU(name="relu"),
        ],
        name="head",
    )
    return keras.Model(inputs, layers.Dense(3, name="top")(head(z)))


def fitted(model, optimizer, rng, epochs=3):
    x = rng.standard_normal((96, *model.input_shape[1:])).astype(np.float32)
    y = rng.integers(0, 3, 96)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    results = model.evaluate(x, y, verbose=0)
    return x, y, history.history["loss"], results


def assert_equal_weights(one, other, tolerance=1e-4):
    for a, b in zip(one.weights, other.weights, strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(*map(to_numpy, (a, b)), rtol=tolerance, atol=tolerance)


def to_numpy(x):
    return np.array(keras.ops.convert_to_numpy(x))


@needs_kernels
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "global_clipnorm": 1.0}),
        ("Adagrad", {"learning_rate": 0.05, "clipvalue": 0.01}),
        ("RMSprop", {"learning_rate": 0.01, "use_ema": True}),
        ("Adam", {"learning_rate": 0.01, "amsgrad": True, "loss_scale_factor": 16.0}),
        ("AdamW", {"learning_rate": 0.01, "gradient_accumulation_steps": 2}),
    ],
)
def test_fit_follows_keras(rng, name, options):
    plain = sequential()
    own = fk.convert(plain)
    assert [type(layer).__name__ for layer in own.layers] == [
        *("Dense", "BatchNormalizationLeakyReLU") * 2,
        "Dense",
    ]
    state = rng.bit_generator.state
    *_, expected, theirs = fitted(plain, getattr(keras.optimizers, name)(**options), rng)
    rng.bit_generator.state = state
    *_, losses, results = fitted(own, getattr(fk.optimizers, name)(**options), rng)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(results, theirs, rtol=1e-3)
    assert_equal_weights(own, plain, 1e-3)


@needs_kernels
@pytest.mark.parametrize("frequency", [None, 3])
def test_fit_goes_on_from_averages(rng, frequency):
    """At the end of `fit` the weights are the averages; Keras' own can then not go on with JAX."""
    model = fk.convert(sequential())
    options = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": frequency}
    optimizer = fk.optimizers.Adam(0.01, **options)
    x, y, losses, _ = fitted(model, optimizer, rng)
    averages = [to_numpy(average) for average in optimizer._model_variables_moving_average]
    for weight, average in zip(model.trainable_weights, averages, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), average)
    more = model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    assert more.history["loss"][-1] < losses[0]
    assert int(optimizer.iterations) == 15


@needs_fit
@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_files_of_a_model_go_on_where_it_stopped(rng, tmp_path, suffix):
    model = fk.convert(sequential())
    x, y, *_ = fitted(model, fk.optimizers.Adam(0.01, weight_decay=0.1), rng)
    path = tmp_path / f"model.{suffix}"
    if suffix == "keras":
        model.save(path)
        copy = keras.models.load_model(path)
        assert [type(layer) for layer in copy.layers] == [type(layer) for layer in model.layers]
        assert type(copy.optimizer) is fk.optimizers.Adam
        assert int(copy.optimizer.iterations) == 9
    else:
        model.save_weights(path)
        copy = keras.models.clone_model(model)
        copy.load_weights(path)
        assert_equal_weights(copy, model, 0)
        return
    for one in (model, copy):
        one.fit(x, y, batch_size=32, epochs=1, shuffle=False, verbose=0)
    assert_equal_weights(copy, model, 0 if BACKEND == "torch" else 1e-6)


@needs_kernels
def test_an_optimizer_that_keras_saved_goes_on(rng, tmp_path):
    plain = sequential()
    x, y, *_ = fitted(plain, keras.optimizers.Adam(0.01), rng)
    plain.save(tmp_path / "plain.keras")
    other = sequential()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    other.compile(optimizer=fk.optimizers.Adam(0.01), loss=loss)
    other.optimizer.build(other.trainable_variables)
    other.set_weights(plain.get_weights())
    store = {}
    plain.optimizer.save_own_variables(store)
    other.optimizer.load_own_variables(store)
    for model in (plain, other):
        model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(plain.weights, other.weights, strict=True):
        np.testing.assert_allclose(*map(to_numpy, (a, b)), rtol=1e-4, atol=1e-5)


def test_convert_a_functional_model(rng):
    model = functional()
    x = rng.standard_normal((5, 6, 6, 2)).astype(np.float32)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    copy = fk.convert(model)
    kinds = {layer.name: type(layer) for layer in copy.layers}
    assert kinds["norm1"] is fk.BatchNormalizationLeakyReLU
    assert kinds["norm2"] is layers.BatchNormalization
    assert "relu1" not in kinds
    assert "relu2" in kinds
    head = copy.get_layer("head")
    assert [layer.name for layer in head.layers] == ["dense", "norm"]
    assert copy.get_layer("norm1").negative_slope == 0
    assert head.get_layer("norm").negative_slope == pytest.approx(0.3)
    expected = to_numpy(model(x))
    np.testing.assert_allclose(to_numpy(copy(x)), expected, rtol=1e-4, atol=1e-4)
    back = fk.revert(copy)
    np.testing.assert_allclose(to_numpy(back(x)), expected, rtol=1e-4, atol=1e-4)
    assert not any("fusednn" in type(layer).__module__ for layer in back._flatten_layers())
    assert "norm1_leaky_relu" in [layer.name for layer in back.layers]
    assert "relu1" in [layer.name for layer in model.layers]


def test_pairs_of_a_functional_model():
    pairs = fk.find_pairs(functional())
    assert pairs == [
        fk.Pair("norm1", "relu1", None),
        fk.Pair("norm2", None, "no activation follows"),
        fk.Pair("head/norm", "head/relu", None),
    ]


def test_reasons():
    inputs = keras.Input((4,))
    relu, shared = layers.ReLU(name="relu"), layers.BatchNormalization(name="shared")
    twice = layers.BatchNormalization(name="twice")(inputs)
    one = relu(layers.BatchNormalization(name="one")(inputs))
    two = relu(layers.BatchNormalization(name="two")(inputs))
    out = layers.BatchNormalization(name="out")(inputs)
    capped = layers.ReLU(6.0)(layers.BatchNormalization(name="capped")(inputs))
    penalty = keras.regularizers.L2(0.1)
    odd = layers.LeakyReLU(activity_regularizer=penalty, name="odd")
    regular = odd(layers.BatchNormalization(name="regular")(inputs))
    half = layers.LeakyReLU(dtype="float16", name="half")
    short = half(layers.BatchNormalization(name="short")(inputs))
    outputs = [twice + layers.ReLU()(twice), one, two, layers.ReLU()(out), out, capped, regular]
    outputs += [short, layers.ReLU()(shared(inputs)), shared(one)]
    reasons = {p.batch_normalization: p.reason for p in fk.find_pairs(keras.Model(inputs, outputs))}
    several, other = "stands in several places", "used by something else than one activation"
    expected = {
        "twice": other,
        "one": several,
        "two": several,
        "out": other,
        "capped": "the ReLU after it has max_value=",
        "regular": "activity regularizer",
        "short": "one computes in float32, the other in float16",
        "shared": "called 2 times",
    }
    assert set(reasons) == set(expected)
    for name, part in expected.items():
        assert part in reasons[name], name


def test_what_cannot_be_converted_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    for function in (fk.convert, fk.revert, fk.find_pairs):
        with pytest.raises(TypeError, match=r"`model` must be a keras\.Sequential.*type=Own"):
            function(Own())
        with pytest.raises(ValueError, match=r"`model` must be built: .*which is not"):
            function(keras.Sequential([layers.BatchNormalization(), layers.ReLU()]))


def test_frozen_layers_and_dtypes_are_kept():
    model = sequential(dtype="bfloat16", momentum=0.5)
    model.layers[1].trainable = False
    copy = fk.convert(model)
    pairs = fk.find_pairs(model)
    assert "one computes in bfloat16" in pairs[0].reason
    assert not copy.layers[1].trainable
    assert copy.layers[1].momentum == 0.5
    assert [w.dtype for w in copy.weights] == [w.dtype for w in model.weights]


def test_the_reason_is_what_follows():
    layers, relu = keras.layers, keras.layers.ReLU
    followers = {
        "the ReLU after it has max_value=6": relu(6),
        "the ReLU after it has max_value=2 and threshold=1": relu(2, threshold=1),
        "the ReLU after it has threshold=0.5": relu(threshold=0.5),
        "the activation after it is tanh": layers.Activation("tanh"),
        "the activation after it is relu6": layers.Activation("relu6"),
        "the activation after it is a PReLU": layers.PReLU(),
        "the activation after it is a ELU": layers.ELU(),
        "no activation follows": layers.Dense(2),
    }
    for reason, follower in followers.items():
        model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(), follower])
        assert [pair.reason for pair in fk.find_pairs(model)] == [reason]
        inputs = keras.Input((3,))
        x = layers.BatchNormalization()(inputs)
        model = keras.Model(inputs, type(follower).from_config(follower.get_config())(x))
        assert [pair.reason for pair in fk.find_pairs(model)] == [reason]
