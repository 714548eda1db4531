"""Leaky ReLU's CUDA kernels against the CPU's: the same bits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusednn import ops
from reference import assert_same_numbers

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SIZES = [0, 1, 7, 97, 1024, 8191, 20001]


def values(size: int, dtype: np.dtype, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=size).astype(dtype)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 6e-8, -6e-8]).astype(dtype)
    x[: min(size, 7)] = special[:size]
    return x


@pytest.mark.parametrize("slope", [0.01, 0.0, 1.0, -0.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_forward_and_backward(gpu, dtype, slope, schedule):
    gpu.schedule(*schedule)
    for size in SIZES:
        x, grad = values(size, dtype, 1), values(size, dtype, 2)[::-1].copy()
        y, grad_x = np.empty_like(x), np.empty_like(x)
        ops.leaky_relu(x, slope, out=y)
        ops.leaky_relu_backward(grad, x, slope, out=grad_x)
        for offset in (0, 1):
            at = offset * x.dtype.itemsize
            dx, dgrad, out = gpu.array(x, offset=at), gpu.array(grad), gpu.empty(size, dtype, at)
            ops.leaky_relu(dx, slope, out=out)
            assert_same_numbers(out.get(), y)
            ops.leaky_relu_backward(dgrad, dx, slope, out=out)
            assert_same_numbers(out.get(), grad_x)
            assert_same_numbers(dx.get(), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_in_place(gpu, dtype):
    x, grad = values(5001, dtype, 1), values(5001, dtype, 2)
    expected = ops.leaky_relu_backward(grad, x, 0.1)
    for target in (0, 1):
        dgrad, dx = gpu.array(grad), gpu.array(x)
        ops.leaky_relu_backward(dgrad, dx, 0.1, out=(dgrad, dx)[target])
        assert_same_numbers((dgrad, dx)[target].get(), expected)
    dx = gpu.array(x)
    ops.leaky_relu(dx, 0.1, out=dx)
    assert_same_numbers(dx.get(), ops.leaky_relu(x, 0.1))
