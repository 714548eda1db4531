"""Activations and their gradients against real Keras, differentiated by its backend."""

from __future__ import annotations

import inspect
import os

import numpy as np
import pytest

from fusednn import activations

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")
from keras_gradients import values_and_gradient  # noqa: E402

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = sorted(
    name
    for name in activations.__all__
    if isinstance(getattr(activations, name), activations.Activation)
)
OPTIONS = [
    ("leaky_relu", {"negative_slope": 0.05}),
    ("relu", {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}),
    ("gelu", {"approximate": True}),
    ("squareplus", {"b": 1.0}),
    ("hard_shrink", {"threshold": 1.0}),
    ("soft_shrink", {"threshold": 1.0}),
    ("softmax", {"axis": 0}),
    ("softmax", {"axis": (0, 1)}),
    ("log_softmax", {"axis": 0}),
]


@pytest.mark.parametrize(("name", "options"), [(name, {}) for name in NAMES] + OPTIONS)
def test_values_and_gradients(rng, name, options):
    x = (4 * rng.standard_normal((31, 9))).astype(np.float32)
    grad = rng.standard_normal((31, 9)).astype(np.float32)
    function = getattr(keras.activations, name)
    expected, pulled_back = values_and_gradient(lambda z: function(z, **options), x, grad)
    activation = getattr(activations, name)
    np.testing.assert_allclose(activation(x, **options), expected, rtol=1e-5, atol=1e-6)
    if name != "relu" or not options:  # the layer has its derivative
        made = type(activation)(**options)
        y = made.forward(x)
        gradient = made.backward(grad, x, y)
        # Of the approximate GELU on the left side, 1 + tanh cancels in theirs.
        atol = 1e-5 if options == {"approximate": True} else 2e-6
        np.testing.assert_allclose(gradient, pulled_back, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("name", NAMES)
def test_signatures(name):
    function = getattr(keras.activations, name)
    theirs = list(inspect.signature(function).parameters.values())
    ours = list(inspect.signature(getattr(activations, name)).parameters.values())
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


def test_names_and_serialized_forms():
    missing = {"get", "deserialize", "serialize", "threshold", "sparsemax", "glu"}
    theirs = {name for name in dir(keras.activations) if not name.startswith("_")}
    assert theirs - missing == set(NAMES)
    for name in NAMES:
        function = getattr(keras.activations, name)
        assert activations.serialize(activations.get(name)) == keras.activations.serialize(function)
