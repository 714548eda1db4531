"""Layers, summaries and whole training runs against real Keras, from the same weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn import layers, models, optimizers

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS, BATCH, FEATURES, CLASSES = 50, 32, 20, 5
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


def pair(name: str, input_shape: tuple[int | None, ...], **options: Any) -> tuple[Any, Any]:
    """The same layer in both libraries, built, with the same random weights."""
    ours = getattr(layers, name)(**options)
    theirs = getattr(keras.layers, name)(**options)
    ours.build(input_shape)
    theirs.build(input_shape)
    assert [v.name for v in ours.weights] == [v.name for v in theirs.weights]
    weights = [
        np.random.default_rng(i).uniform(0.5, 1.5, v.shape).astype("float32")
        for i, v in enumerate(ours.weights)
    ]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


# ---- single layers

LAYERS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("Dense", (6, 7), {"units": 4}),
    ("Dense", (6, 3, 7), {"units": 4, "activation": "tanh"}),
    ("Dense", (6, 7), {"units": 4, "use_bias": False, "activation": "leaky_relu"}),
    ("LeakyReLU", (6, 7), {}),
    ("LeakyReLU", (6, 7), {"negative_slope": 0.05}),
    ("ReLU", (6, 7), {}),
    ("ReLU", (6, 7), {"max_value": 0.75, "negative_slope": 0.1, "threshold": 0.25}),
    ("Activation", (6, 7), {"activation": "leaky_relu"}),
    ("Activation", (6, 7), {"activation": "softmax"}),
    ("Activation", (6, 7), {"activation": "selu"}),
    ("Flatten", (6, 3, 7), {}),
    ("Dropout", (6, 7), {"rate": 0.5}),
]


@pytest.mark.parametrize(("name", "shape", "options"), LAYERS)
def test_forward(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    ours, theirs = pair(name, (None, *shape[1:]), **options)
    x = normal(*shape)
    np.testing.assert_allclose(ours(x), numpy(theirs(x)), rtol=1e-5, atol=1e-6)
    assert ours.compute_output_shape((None, *shape[1:])) == theirs.compute_output_shape(
        (None, *shape[1:])
    )
    assert ours.count_params() == theirs.count_params()


@pytest.mark.parametrize("mode", ["training", "inference", "frozen"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 5), {}),
        ((8, 5), {"momentum": 0.7, "epsilon": 1e-2, "center": False}),
        ((8, 5), {"scale": False}),
        ((4, 3, 5), {"axis": 1}),
        ((4, 3, 2, 5), {"axis": -1, "momentum": 0.5}),
    ],
)
def test_batch_normalization(mode: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    ours, theirs = pair("BatchNormalization", (None, *shape[1:]), **options)
    ours.trainable = theirs.trainable = mode != "frozen"
    for step in range(3):
        x = 2 + 3 * normal(*shape, seed=step)
        training = mode != "inference"
        expected = numpy(theirs(x, training=training))
        np.testing.assert_allclose(ours(x, training=training), expected, rtol=1e-5, atol=1e-5)
    for own, their in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(own, numpy(their.value), rtol=1e-5, atol=1e-6)
    assert len(ours.trainable_weights) == len(theirs.trainable_weights)


# ---- whole models

MODELS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "batch norm": [
        ("Dense", {"units": 16, "use_bias": False}),
        ("BatchNormalization", {}),
        ("LeakyReLU", {}),
        ("Dense", {"units": 12, "use_bias": False}),
        ("BatchNormalization", {"momentum": 0.8}),
        ("Activation", {"activation": "relu"}),
        ("Dense", {"units": CLASSES, "activation": "softmax"}),
    ],
    "input normalised": [
        ("BatchNormalization", {}),
        ("Dense", {"units": 16, "activation": "selu", "kernel_initializer": "lecun_normal"}),
        ("Dense", {"units": 12}),
        ("LeakyReLU", {}),
        ("Dense", {"units": CLASSES}),
        ("Activation", {"activation": "softmax"}),
    ],
    "frozen part": [
        ("Dense", {"units": 16}),
        ("BatchNormalization", {"trainable": False}),
        ("ReLU", {}),
        ("Dense", {"units": 12, "trainable": False}),
        ("Activation", {"activation": "tanh"}),
        ("Dense", {"units": CLASSES, "activation": "softmax"}),
    ],
}
BIASED = [(name, options | {"use_bias": True} if name == "Dense" else options)
          for name, options in MODELS["batch norm"]]  # fmt: skip

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"learning_rate": 0.05}),
    ("SGD", {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("RMSprop", {}),
    ("AdamW", {"weight_decay": 0.01, "global_clipnorm": 1.0}),
]


def model_pair(architecture: Sequence[tuple[str, dict[str, Any]]]) -> tuple[Any, Any]:
    # The same weights every time: of some weights a sum lies so near a rectifier's kink that the
    # frameworks' roundings fall on its two sides, and the runs go apart.
    keras.utils.set_random_seed(1)
    theirs = keras.Sequential(
        [keras.Input((FEATURES,)), *(getattr(keras.layers, n)(**o) for n, o in architecture)]
    )
    ours = models.Sequential(
        [layers.Input((FEATURES,)), *(getattr(layers, n)(**o) for n, o in architecture)]
    )
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def train(
    ours: Any, theirs: Any, optimizer: str, options: dict[str, Any], tolerance: float = 1e-5
) -> None:
    """Make the same 50 steps in both, and compare each loss."""
    ours.compile(
        getattr(optimizers, optimizer)(**options),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    theirs.compile(
        getattr(keras.optimizers, optimizer)(**options),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    x = normal(STEPS * BATCH, FEATURES)
    y = np.argmax(x @ normal(FEATURES, CLASSES, seed=1), axis=1)
    settings = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0}
    half = STEPS * BATCH // 2
    data = {"x": x[:half], "y": y[:half], "validation_data": (x[half:], y[half:])}
    own = ours.fit(**data, **settings).history
    their = theirs.fit(**data, **settings).history
    assert set(own) == set(their)
    # Rounding decides on which side of a tie a sample falls: accuracies may differ by two samples.
    two_samples = 2 / half
    for name, values in their.items():
        allowed = {"atol": two_samples} if "accuracy" in name else {"rtol": tolerance}
        np.testing.assert_allclose(own[name], values, **allowed, err_msg=name)
    own_results = ours.evaluate(x, y, return_dict=True)
    their_results = theirs.evaluate(x, y, verbose=0, return_dict=True)
    assert own_results["loss"] == pytest.approx(their_results["loss"], rel=tolerance)
    assert own_results["accuracy"] == pytest.approx(their_results["accuracy"], abs=two_samples / 2)
    np.testing.assert_allclose(
        ours.predict(x), theirs.predict(x, verbose=0), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)
@pytest.mark.parametrize("architecture", MODELS)
def test_training(architecture: str, optimizer: str, options: dict[str, Any]) -> None:
    ours, theirs = model_pair(MODELS[architecture])
    train(ours, theirs, optimizer, options)
    for own, their in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(own, numpy(their.value), **TOLERANCE, err_msg=own.path)


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS[:3])
def test_training_with_a_bias_before_batch_normalization(
    optimizer: str, options: dict[str, Any]
) -> None:
    """Their gradient is rounding noise, which Adam scales up: it shifts bias and mean alike."""
    ours, theirs = model_pair(BIASED)
    # Theirs wanders, and what is left after subtracting its mean has lost digits.
    train(ours, theirs, optimizer, options, tolerance=2e-4)
    for i, (own, their) in enumerate(zip(ours.weights, theirs.weights, strict=True)):
        if own.name == "bias" and i < 10:
            np.testing.assert_allclose(own, numpy(their.value), atol=0.02, err_msg=own.path)
        elif own.name == "moving_mean":
            own_bias = ours.weights[i - 3].value
            their_bias = numpy(theirs.weights[i - 3].value)
            np.testing.assert_allclose(
                own - own_bias, numpy(their.value) - their_bias, atol=0.02, err_msg=own.path
            )
        else:
            np.testing.assert_allclose(own, numpy(their.value), **TOLERANCE, err_msg=own.path)


@pytest.mark.parametrize("architecture", MODELS)
def test_summary_and_counts(architecture: str) -> None:
    ours, theirs = model_pair(MODELS[architecture])
    assert ours.count_params() == theirs.count_params()
    for kind in ("weights", "trainable_weights", "non_trainable_weights"):
        own, their = getattr(ours, kind), getattr(theirs, kind)
        assert [(v.name, v.shape) for v in own] == [(v.name, tuple(v.shape)) for v in their]

    def lines(model: Any) -> list[str]:
        text: list[str] = []
        model.summary(line_length=72, print_fn=text.append)
        return "".join(text).strip().splitlines()

    # The names of models and layers count up over a process, so rows differ in their first cell.
    def numbers(model: Any) -> list[Any]:
        return [line.split("│")[2:] if "│" in line else line for line in lines(model)[1:]]

    assert numbers(ours) == numbers(theirs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"show_trainable": True},
        {"expand_nested": True},
        {"expand_nested": True, "show_trainable": True, "positions": [0.5, 0.7, 1.0]},
        {"layer_range": ["norm", "inner"]},
    ],
)
def test_summary_of_named_layers_is_the_same_text(options: dict[str, Any]) -> None:
    def text(library: Any, sequential: Any) -> str:
        model = sequential(
            [
                library.Input((64,)),
                library.Dense(100, name="first"),
                library.BatchNormalization(name="norm"),
                library.LeakyReLU(name="activation"),
                sequential([library.Input((100,)), library.Dense(9, name="deep")], name="inner"),
                library.Dense(10, name="out", trainable=False),
            ],
            name="net",
        )
        printed: list[str] = []
        model.summary(line_length=70, print_fn=printed.append, **options)
        model.compile("adam", "mse")
        model.fit(np.zeros((2, 64)), np.zeros((2, 10)), verbose=0)
        model.summary(line_length=70, print_fn=printed.append, **options)
        return "".join(printed).replace("\n", "").rstrip()

    assert text(layers, fusednn.Sequential) == text(keras.layers, keras.Sequential)
