"""`leaky_relu` and its backward against the reference, over dtypes, sizes, memory and threads."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn import ops

SIZES = (0, 1, 7, 97, 1_000, 300_001)
SLOPES = (0.0, 0.01, 0.3, 1.0, 2.5, -0.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_sizes(make, threads, dtype, size):
    x, grad = make.normal((size,), dtype), make.normal((size,), dtype)
    y, grad_x = ops.leaky_relu(x), ops.leaky_relu_backward(grad, x)
    assert y.dtype == grad_x.dtype == dtype
    ref.assert_near(y, ref.leaky_relu(x), ulps=1)
    ref.assert_near(grad_x, ref.leaky_relu_backward(grad, x), ulps=1)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_slopes(make, dtype, slope):
    x, grad = make.normal((5, 97), dtype), make.normal((5, 97), dtype)
    ref.assert_near(ops.leaky_relu(x, slope), ref.leaky_relu(x, slope), ulps=1)
    expected = ref.leaky_relu_backward(grad, x, slope)
    ref.assert_near(ops.leaky_relu_backward(grad, x, slope), expected, ulps=1)


@pytest.mark.parametrize("shape", [(), (3, 0, 4), (7, 1, 5), (2, 3, 4, 5)], ids=str)
def test_shapes(make, shape):
    x, grad = make.normal(shape), make.normal(shape)
    assert ops.leaky_relu(x).shape == ops.leaky_relu_backward(grad, x).shape == shape
    ref.assert_near(ops.leaky_relu(x), ref.leaky_relu(x), ulps=1)
    ref.assert_near(ops.leaky_relu_backward(grad, x), ref.leaky_relu_backward(grad, x), ulps=1)


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_awkward_memory_changes_no_bit(make, awkward, dtype):
    x, grad = make.normal((9, 6, 97), dtype), make.normal((9, 6, 97), dtype)
    np.testing.assert_array_equal(ops.leaky_relu(awkward(x)), ops.leaky_relu(x))
    expected = ops.leaky_relu_backward(grad, x)
    np.testing.assert_array_equal(ops.leaky_relu_backward(awkward(grad), awkward(x)), expected)
    np.testing.assert_array_equal(ops.leaky_relu_backward(grad, awkward(x)), expected)


def test_a_broadcast_gradient(make):
    """As `y.sum().backward()` makes it in other frameworks: every stride is 0."""
    x, grad = make.normal((4, 5, 6)), np.broadcast_to(np.float32(3), (4, 5, 6))
    expected = ref.leaky_relu_backward(grad, x)
    ref.assert_near(ops.leaky_relu_backward(grad, x), expected, ulps=1)


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_out(make, dtype):
    x, grad = make.normal((33, 7), dtype), make.normal((33, 7), dtype)
    y, grad_x = ops.leaky_relu(x), ops.leaky_relu_backward(grad, x)
    for out in (np.empty_like(x), make.offset(x)):
        assert ops.leaky_relu(x, out=out) is out
        np.testing.assert_array_equal(out, y)
        assert ops.leaky_relu_backward(grad, x, out=out) is out
        np.testing.assert_array_equal(out, grad_x)


def test_in_place(make):
    x, grad = make.normal((33, 7)), make.normal((33, 7))
    y, grad_x = ops.leaky_relu(x), ops.leaky_relu_backward(grad, x)
    own_grad, own_x = grad.copy(), x.copy()
    assert ops.leaky_relu_backward(own_grad, x, out=own_grad) is own_grad
    np.testing.assert_array_equal(own_grad, grad_x)
    assert ops.leaky_relu_backward(grad, own_x, out=own_x) is own_x
    np.testing.assert_array_equal(own_x, grad_x)
    own_x = x.copy()
    assert ops.leaky_relu(own_x, out=own_x) is own_x
    np.testing.assert_array_equal(own_x, y)


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_exceptional_values(dtype):
    info = ref.ml_dtypes.finfo(dtype)
    values = [0.0, -0.0, np.nan, np.inf, -np.inf, info.max, info.min, info.smallest_subnormal]
    x = np.array(values, dtype)
    ref.assert_near(ops.leaky_relu(x, 0.5), ref.leaky_relu(x, 0.5), ulps=1)
    ones = np.ones_like(x)
    expected = ref.leaky_relu_backward(ones, x, 0.5)
    ref.assert_near(ops.leaky_relu_backward(ones, x, 0.5), expected, ulps=1)


@pytest.mark.parametrize("dtype", ref.DTYPES[2:], ids=str)
def test_every_16_bit_number_survives_the_way_to_float32_and_back(dtype):
    x = np.arange(2**16, dtype=np.uint16).view(dtype)
    y = ops.leaky_relu(x, 1.0)
    with np.errstate(invalid="ignore"):  # raised by signalling NaNs
        numbers = ~np.isnan(x.astype(np.float32))
    np.testing.assert_array_equal(y.view(np.uint16)[numbers], x.view(np.uint16)[numbers])
    assert np.isnan(y[~numbers].astype(np.float32)).all()


def test_finite_differences(make):
    x, grad, h = make.normal((6, 5), np.float64), make.normal((6, 5), np.float64), 1e-6
    numeric = grad * (ops.leaky_relu(x + h, 0.2) - ops.leaky_relu(x - h, 0.2)) / (2 * h)
    np.testing.assert_allclose(ops.leaky_relu_backward(grad, x, 0.2), numeric, atol=1e-8)
