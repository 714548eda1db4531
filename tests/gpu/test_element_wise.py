"""What is computed element by element has the bits of the CPU: leaky ReLU, BatchNorm's maps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from devices import array, require_dtype

import reference as ref
from batch_norm_problem import Problem
from fusednn import ops

SIZES = (0, 1, 7, 97, 8191, 20_001)
SHAPES = ((1, 1, 1), (5, 7, 49), (3, 37, 1), (2, 3, 2000))
SHORT = [
    pytest.param(*of, marks=pytest.mark.short)
    for of in itertools.product(SHAPES, ("NCHW", "NHWC"), ref.DTYPES, (0, 1))
]
LARGE = [
    ((64, 64, 56 * 56), "NCHW", ref.DTYPES[3], 1),
    ((64, 64, 56 * 56), "NHWC", ref.DTYPES[0], 0),
    ((8192, 1001, 1), "NHWC", ref.DTYPES[2], 0),
]


@pytest.mark.short
@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_leaky_relu(device, make, size, dtype, offset):
    check_leaky_relu(device, make, size, dtype, offset)


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_large_leaky_relu(device, make, dtype):
    check_leaky_relu(device, make, 5_000_003, dtype, 1)


def check_leaky_relu(device, make, size, dtype, offset):
    require_dtype(device, dtype)
    x, grad = make.normal((size,), dtype), make.normal((size,), dtype)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 6e-8, -6e-8]).astype(dtype)
    x[:7] = special[:size]
    on_device, grads = array(device, x, offset), array(device, grad)
    out = device.empty((size,), dtype, offset)
    ops.leaky_relu(on_device, 0.1, out=out)
    ref.assert_same_numbers(device.get(out), ops.leaky_relu(x, 0.1))
    ops.leaky_relu_backward(grads, on_device, -0.5, out=out)
    ref.assert_same_numbers(device.get(out), ops.leaky_relu_backward(grad, x, -0.5))
    ref.assert_same_numbers(device.get(on_device), x)
    ops.leaky_relu(on_device, 0.1, out=on_device)
    ref.assert_same_numbers(device.get(on_device), ops.leaky_relu(x, 0.1))


@pytest.mark.parametrize(("shape", "layout", "dtype", "offset"), [*SHORT, *LARGE], ids=str)
def test_maps_of_batch_norm(device, make, shape, layout, dtype, offset):
    require_dtype(device, dtype)
    p = Problem(make, shape, dtype, layout, slope=0.1)
    own, channels = ref.statistics_dtype(dtype), (shape[1],)
    var, sum_grad, sum_grad_xhat = (make.uniform(channels, own) for _ in range(3))
    mean = make.normal(channels, own)
    inv_std = (1 / np.sqrt(var)).astype(own)
    x, grad = (array(device, a, offset) for a in (p.x, p.grad))
    small = {
        name: array(device, values)
        for name, values in {
            **{"gamma": p.gamma, "beta": p.beta, "mean": mean, "var": var, "inv_std": inv_std},
            **{"sum_grad": sum_grad, "sum_grad_xhat": sum_grad_xhat},
        }.items()
    }
    affine, own_affine = (small["gamma"], small["beta"]), (p.gamma, p.beta)
    out = device.empty(p.x.shape, dtype, offset)

    saved = small["mean"], small["inv_std"]
    ops.batch_norm_apply(x, *saved, *affine, **p.how, out=out)
    expected = ops.batch_norm_apply(p.x, mean, inv_std, *own_affine, **p.how)
    ref.assert_same_numbers(device.get(out), expected)

    population = small["mean"], small["var"]
    ops.batch_norm_inference(x, *affine, *population, **p.how, out=out)
    expected = ops.batch_norm_inference(p.x, *own_affine, mean, var, **p.how)
    ref.assert_same_numbers(device.get(out), expected)

    count = 2 * shape[0] * shape[2] + 1
    sums = small["sum_grad"], small["sum_grad_xhat"]
    ops.batch_norm_backward_apply(grad, x, *affine, *saved, *sums, count, **p.how, out=out)
    expected = ops.batch_norm_backward_apply(
        p.grad, p.x, *own_affine, mean, inv_std, sum_grad, sum_grad_xhat, count, **p.how
    )
    ref.assert_same_numbers(device.get(out), expected)
