"""The activations: float64 formulas, derivatives by finite differences, in place, extremes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fusednn import activations
from fusednn.activations import (
    CELU,
    ELU,
    GELU,
    Activation,
    HardShrink,
    LeakyReLU,
    SoftShrink,
    Squareplus,
)

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805


erf = np.vectorize(math.erf, otypes=[float])


def softplus(x):
    return np.logaddexp(0, x)


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
    "relu6": (activations.relu6, lambda x: np.clip(x, 0, 6)),
    "celu": (CELU(), lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)),
    "celu_0.5": (CELU(0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0) / 0.5))),
    "exponential": (activations.exponential, np.exp),
    "hard_sigmoid": (activations.hard_sigmoid, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "sparse_sigmoid": (activations.sparse_sigmoid, lambda x: np.clip((x + 1) / 2, 0, 1)),
    "log_sigmoid": (activations.log_sigmoid, lambda x: -softplus(-x)),
    "hard_tanh": (activations.hard_tanh, lambda x: np.clip(x, -1, 1)),
    "tanh_shrink": (activations.tanh_shrink, lambda x: x - np.tanh(x)),
    "softsign": (activations.softsign, lambda x: x / (1 + np.abs(x))),
    "softplus": (activations.softplus, softplus),
    "squareplus": (
        activations.squareplus,
        lambda x: np.where(x < 0, 2 / (np.hypot(x, 2) - x), (x + np.hypot(x, 2)) / 2),
    ),
    "squareplus_1": (
        Squareplus(1.0),
        lambda x: np.where(x < 0, 0.5 / (np.hypot(x, 1) - x), (x + np.hypot(x, 1)) / 2),
    ),
    "sparse_plus": (
        activations.sparse_plus,
        lambda x: np.where(x < 1, (np.maximum(x, -1) + 1) ** 2 / 4, x),
    ),
    "hard_shrink": (activations.hard_shrink, lambda x: np.where(np.abs(x) > 0.5, x, 0)),
    "hard_shrink_1": (HardShrink(1.0), lambda x: np.where(np.abs(x) > 1, x, 0)),
    "soft_shrink": (activations.soft_shrink, lambda x: x - np.clip(x, -0.5, 0.5)),
    "soft_shrink_1": (SoftShrink(1.0), lambda x: x - np.clip(x, -1, 1)),
    "gelu": (activations.gelu, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    "gelu_approximate": (
        GELU(approximate=True),
        lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    "silu": (activations.silu, lambda x: x / (1 + np.exp(-x))),
    "hard_silu": (activations.hard_silu, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "mish": (activations.mish, lambda x: x * np.tanh(softplus(x))),
    "log_softmax": (
        activations.log_softmax,
        lambda x: x - np.logaddexp.reduce(x, axis=-1, keepdims=True),
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
    if activation.needs_input:
        with pytest.raises(ValueError, match=r"`x` must be given: .* needs its input"):
            activation.backward(grad, None, y)
    else:
        np.testing.assert_array_equal(activation.backward(grad, None, y), grad_x)
    work = np.full((activation.work_arrays, *shape), np.nan, dtype)
    np.testing.assert_array_equal(activation.forward(x, work=work), y)
    np.testing.assert_array_equal(activation.backward(grad, x, y, work=work), grad_x)


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
    kept = x_before if activation.needs_input else None
    assert activation.backward(grad, kept, x, out=grad) is grad
    np.testing.assert_array_equal(grad, grad_x)
    np.testing.assert_array_equal(x, y)  # backward only reads x and y


@DTYPES
def test_extremes_are_finite_and_exact(case, dtype):
    activation, formula = case
    end = 80.0 if activation.name == "exponential" else 1e4
    x = np.array([[-1e4, -30.0, -0.0, 0.0, 30.0, end]], dtype)
    y = activation.forward(x)
    with np.errstate(over="ignore"):
        expected = formula(x.astype(np.float64))
    # The logistic function of -1e4 is 0 to float64's last digit.
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=1e-30)
    grad_x = activation.backward(np.ones_like(x), x, y)
    assert np.isfinite(grad_x).all()


def test_the_tail_of_gelu_is_accurate():
    for dtype, ulps in ((np.float32, 60), (np.float64, 60)):
        x = np.linspace(-6, 6, 997).astype(dtype)
        wide = x.astype(np.float64)
        exact = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in wide])
        tolerance = ulps * np.finfo(dtype).eps
        np.testing.assert_allclose(activations.gelu(x), exact, rtol=tolerance)


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


def test_call_takes_the_arguments_of_the_class():
    x = np.linspace(-4, 8, 25)
    np.testing.assert_allclose(activations.elu(x, alpha=0.5), ELU(0.5)(x))
    np.testing.assert_allclose(activations.leaky_relu(x, 0.5), np.where(x > 0, x, x / 2))
    np.testing.assert_allclose(
        activations.relu(x, negative_slope=0.1, max_value=6.0, threshold=0.5),
        np.where(x > 0.5, np.minimum(x, 6), 0.1 * (x - 0.5)),
    )
    with pytest.raises(ValueError, match="`max_value` must be a finite number >= 0"):
        activations.relu(x, max_value=-1.0)


def test_softmax_of_infinity_is_nan_without_a_warning():
    y = activations.softmax([[np.inf, 0.0], [0.0, 0.0]])
    assert np.isnan(y[0, 0])
    np.testing.assert_array_equal(y[1], 0.5)


def test_nan_stays(case):
    activation, _ = case
    assert np.isnan(activation.forward(np.array([[np.nan, 1.0]]))[0, 0])


NAMES = sorted(
    name for name in activations.__all__ if isinstance(getattr(activations, name), Activation)
)


def test_every_name_has_a_case():
    assert {activations.get(name).name for name in NAMES} == {a.name for a, _ in CASES.values()}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"swish", "hard_swish"}))
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
    assert activations.get("swish").name == "silu"
    assert activations.get("hard_swish").name == "hard_silu"
    assert activations.serialize(activations.relu) == "relu"
    assert activations.serialize(ELU(0.5)) == {"class_name": "ELU", "config": {"alpha": 0.5}}
    assert activations.deserialize(activations.serialize(ELU(0.5))).alpha == 0.5
    leaky = activations.get({"class_name": "LeakyReLU", "config": {"negative_slope": 0.125}})
    assert leaky.negative_slope == 0.125
    for wrong in ("rely", 3, np.tanh):
        with pytest.raises(ValueError, match="`activation` must be an activation object"):
            activations.get(wrong)
    with pytest.raises(ValueError, match="`negative_slope` must be a finite number >= 0"):
        LeakyReLU(-0.1)
    with pytest.raises(ValueError, match="`alpha` must be a finite number >= 0"):
        ELU(float("nan"))
    with pytest.raises(ValueError, match="`alpha` must be a finite number > 0"):
        CELU(0.0)
    with pytest.raises(ValueError, match="`b` must be a finite number > 0"):
        Squareplus(0)
    for shrink in (HardShrink, SoftShrink):
        with pytest.raises(ValueError, match="`threshold` must be a finite number >= 0"):
            shrink(-1)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,)])
def test_rows_of_nothing(name, shape):
    out = np.empty(shape, np.float32)
    activation = activations.get(name)
    assert activation.forward(out, out=out) is out
    y = activation(out)
    assert y.shape == shape
    assert y.dtype == np.float32
