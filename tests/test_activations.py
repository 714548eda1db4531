"""The activations: float64 formulas, derivatives by finite differences, in place, extremes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusednn import activations
from fusednn.activations import ELU, LeakyReLU

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


CASES = {
    "linear": (activations.linear, lambda x: x),
    "relu": (activations.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (activations.leaky_relu, lambda x: np.where(x > 0, x, 0.2 * x)),
    "leaky_relu_0.5": (LeakyReLU(0.5), lambda x: np.where(x > 0, x, 0.5 * x)),
    "sigmoid": (activations.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (activations.tanh, np.tanh),
    "softmax": (activations.softmax, softmax),
    "elu": (activations.elu, lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)),
    "elu_0.5": (ELU(0.5), lambda x: np.where(x > 0, x, 0.5 * (np.exp(np.minimum(x, 0)) - 1))),
    "selu": (
        activations.selu,
        lambda x: SCALE * np.where(x > 0, x, ALPHA * (np.exp(np.minimum(x, 0)) - 1)),
    ),
}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@DTYPES
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (7, 5), (97, 10), (4, 3, 6)], ids=str)
def test_forward_and_backward(rng, case, shape, dtype):
    activation, formula = case
    x = (2 * rng.standard_normal(shape)).astype(dtype)
    grad = rng.standard_normal(shape).astype(dtype)
    wide, wide_grad = x.astype(np.float64), grad.astype(np.float64)
    tolerance = 3e-6 if dtype == np.float32 else 1e-13

    y = activation.forward(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, formula(wide), rtol=tolerance, atol=tolerance)

    numeric = np.zeros(shape)
    for index in np.ndindex(shape):
        ends = []
        for sign in (1, -1):
            moved = wide.copy()
            moved[index] += sign * 1e-6
            ends.append((formula(moved) * wide_grad).sum())
        numeric[index] = (ends[0] - ends[1]) / 2e-6
    grad_x = activation.backward(grad, x, y)
    assert grad_x.dtype == dtype
    np.testing.assert_allclose(grad_x, numeric, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(activation.backward(grad, None, y), grad_x)


@DTYPES
def test_in_place_and_into_out(rng, case, dtype):
    activation, _ = case
    x, grad = rng.standard_normal((2, 9, 7)).astype(dtype)
    x_before, grad_before = x.copy(), grad.copy()
    y, grad_x = activation.forward(x), activation.backward(grad, x, activation.forward(x))
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(grad, grad_before)

    out = np.full_like(x, np.nan)
    assert activation.forward(x, out=out) is out
    np.testing.assert_array_equal(out, y)
    out_grad = np.full_like(x, np.nan)
    assert activation.backward(grad, x, out, out=out_grad) is out_grad
    np.testing.assert_array_equal(out_grad, grad_x)

    assert activation.forward(x, out=x) is x
    np.testing.assert_array_equal(x, y)
    assert activation.backward(grad, None, x, out=grad) is grad
    np.testing.assert_array_equal(grad, grad_x)
    np.testing.assert_array_equal(x, y)  # backward only reads y


@DTYPES
def test_extremes_are_finite_and_exact(case, dtype):
    activation, formula = case
    x = np.array([[-1e4, -30.0, -0.0, 0.0, 30.0, 1e4]], dtype)
    y = activation.forward(x)
    with np.errstate(over="ignore"):
        expected = formula(x.astype(np.float64))
    # The logistic function of -1e4 is 0 to float64's last digit.
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=1e-30)
    grad_x = activation.backward(np.ones_like(x), None, y)
    assert np.isfinite(grad_x).all()


def test_derivatives_at_zero():
    zero = np.zeros((1, 1))
    one = np.ones((1, 1))
    expected = {
        "relu": 0.0,
        "leaky_relu": 0.2,
        "elu": 1.0,
        "selu": ALPHA * SCALE,
        "tanh": 1.0,
        "sigmoid": 0.25,
    }
    for name, slope in expected.items():
        activation = activations.get(name)
        y = activation.forward(zero)
        assert activation.backward(one, zero, y)[0, 0] == pytest.approx(slope), name


def test_call_takes_lists():
    y = activations.relu([-1, 0, 2])
    np.testing.assert_array_equal(y, [0, 0, 2])
    assert y.dtype == np.float32
    np.testing.assert_allclose(activations.softmax([[1.0, 1.0]]), [[0.5, 0.5]])


def test_softmax_of_infinity_is_nan_without_a_warning():
    y = activations.softmax([[np.inf, 0.0], [0.0, 0.0]])
    assert np.isnan(y[0, 0])
    np.testing.assert_array_equal(y[1], 0.5)


def test_nan_stays(case):
    activation, _ = case
    assert np.isnan(activation.forward(np.array([[np.nan, 1.0]]))[0, 0])


@pytest.mark.parametrize(
    "name", ["linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax", "elu", "selu"]
)
def test_get(name):
    activation = activations.get(name)
    assert activation.name == name
    assert activations.get(activation) is activation
    assert type(activation) is type(getattr(activations, name))
    again = activations.get(json.loads(json.dumps(activations.serialize(activation))))
    assert type(again) is type(activation)
    assert again.get_config() == activation.get_config()


def test_get_defaults_and_refusals():
    assert activations.get(None) is activations.linear
    leaky = activations.get({"class_name": "LeakyReLU", "config": {"negative_slope": 0.125}})
    assert leaky.negative_slope == 0.125
    for wrong in ("rely", 3, np.tanh):
        with pytest.raises(ValueError, match="`activation` must be an activation object"):
            activations.get(wrong)
    with pytest.raises(ValueError, match="`negative_slope` must be a finite number >= 0"):
        LeakyReLU(-0.1)
    with pytest.raises(ValueError, match="`alpha` must be a finite number >= 0"):
        ELU(float("nan"))
