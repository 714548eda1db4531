"""BatchNorm of arrays that no cache holds: some channels are written while others are read."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import fusednn
from fusednn import ops

# Several leaves a run, one leaf a run, and several runs a leaf; rows of more channels than a unit
# has, which are read in parts. No whole vectors, nor lines.
SHAPES = [(2, 13, 241, 1013), (53, 33, 61, 63), (96, 101, 25, 27), (3_100, 4_099)]


def normal(shape, dtype, seed, shift=0.0):
    values = np.random.default_rng(seed).standard_normal(np.prod(shape) + 1, np.float32)
    # Not at the beginning of a cache line, nor of a vector.
    return (values + np.float32(shift)).astype(dtype)[1:].reshape(shape)


def forward_and_backward(x, grad, gamma, beta):
    y, *statistics = ops.batch_norm_forward(x, gamma, beta, negative_slope=0.1)
    gradients = ops.batch_norm_backward(grad, x, gamma, beta, *statistics, negative_slope=0.1)
    return (y, *statistics, *gradients)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_what_they_are_in_a_small_array(shape, dtype):
    if dtype == np.float64:
        shape = (shape[0] // 2 + 1, *shape[1:])
    x, grad = normal(shape, dtype, 1, 3.0), normal(shape, dtype, 2)
    of_channels = np.float64 if dtype == np.float64 else np.float32
    gamma, beta = np.linspace(0.5, 2, 2 * shape[1]).reshape(2, -1).astype(of_channels)
    before = fusednn.get_num_threads()
    results = {}
    try:
        for n in (1, 2, 3):
            fusednn.set_num_threads(n)
            results[n] = forward_and_backward(x, grad, gamma, beta)
    finally:
        fusednn.set_num_threads(before)
    for n in (2, 3):
        for a, b in zip(results[1], results[n], strict=True):
            np.testing.assert_array_equal(a, b)
    for c in (0, 4, shape[1] - 2):
        # One channel alone would be one run, with other leaves.
        two = slice(c, c + 2)
        parts = [np.ascontiguousarray(a[:, two]) for a in (x, grad)]
        alone = forward_and_backward(*parts, gamma[two], beta[two])
        for a, b in zip(alone, results[1], strict=True):
            np.testing.assert_array_equal(a, b[two] if b.ndim == 1 else b[:, two])
