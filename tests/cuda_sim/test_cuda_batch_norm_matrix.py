"""The matrix of the CPU's tests of BatchNorm through the package, on the simulated device.

Near the float64 reference as the CPU is, and element by element, given equal statistics, its bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulator import DeviceArray, Simulator

import reference as ref
from batch_norm_problem import LAYOUTS, Problem
from fusednn import ops
from test_batch_norm_ops import SHAPES, SLOPES

#: Those that a simulator passes in a second; test_cuda_batch_norm.py has others.
SMALL = [shape for shape in SHAPES if np.prod(shape) < 60_000]
EPS = 0.25


class Called:
    """`ops` with NumPy's arrays, computed on the device."""

    def __init__(self, gpu: Simulator, p: Problem) -> None:
        if gpu.sanitizer == "thread":
            pytest.skip("test_cuda_batch_norm.py has whatever these kernels wait for")
        self.gpu, self.p = gpu, p

    def __call__(self, name: str, *given: Any, sums: bool, **how: Any) -> list[np.ndarray]:
        """The function's results: one array like x and, with `sums`, two by channel."""
        p, gpu = self.p, self.gpu
        main = gpu.empty(p.x.shape, p.x.dtype)
        out = [main, *(gpu.empty(p.gamma.shape, p.gamma.dtype) for _ in range(2 if sums else 0))]
        on_device: list[DeviceArray | None] = [None if a is None else gpu.array(a) for a in given]
        getattr(ops, name)(*on_device, out=tuple(out) if sums else main, **how, **p.how)
        return [a.get() for a in out]


@pytest.mark.parametrize("shape", SMALL, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_forward_and_backward(make, gpu, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.01)
    call = Called(gpu, p)
    y, mean, inv_std = call("batch_norm_forward", p.x, p.gamma, p.beta, sums=True)
    p.assert_statistics(mean, inv_std)
    p.assert_output(y, mean, inv_std, p.gamma, p.beta)
    own = ops.batch_norm_apply(p.x, mean, inv_std, p.gamma, p.beta, **p.how)
    ref.assert_same_numbers(y, own)
    saved = (p.grad, p.x, p.gamma, p.beta, mean, inv_std)
    got = call("batch_norm_backward", *saved, sums=True)
    p.assert_gradients(got, ref.batch_norm_backward(*saved, **p.how), p.gamma, inv_std, mean)


@pytest.mark.parametrize("affine", ["both", "gamma", "beta", "neither"])
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_options(make, gpu, dtype, layout, slope, affine):
    p = Problem(make, (5, 3, 97), dtype, layout, slope)
    call = Called(gpu, p)
    gamma = p.gamma if affine in ("both", "gamma") else None
    beta = p.beta if affine in ("both", "beta") else None
    z = ref.batch_norm_forward(p.x, gamma, beta, EPS, channel_axis=p.axis)[0]
    p.grad[np.abs(z) < 1e-3] = 0
    y, mean, inv_std = call("batch_norm_forward", p.x, gamma, beta, sums=True, eps=EPS)
    p.assert_statistics(mean, inv_std, eps=EPS)
    p.assert_output(y, mean, inv_std, gamma, beta)
    own = ops.batch_norm_apply(p.x, mean, inv_std, gamma, beta, **p.how)
    ref.assert_same_numbers(y, own)

    saved = (p.grad, p.x, gamma, beta, mean, inv_std)
    got = call("batch_norm_backward", *saved, sums=True)
    p.assert_gradients(got, ref.batch_norm_backward(*saved, **p.how), gamma, inv_std, mean)

    running = (p.beta / 2, np.abs(p.gamma))
    (y,) = call("batch_norm_inference", p.x, gamma, beta, *running, sums=False, eps=EPS)
    own = ops.batch_norm_inference(p.x, gamma, beta, *running, eps=EPS, **p.how)
    ref.assert_same_numbers(y, own)

    z = ref.batch_norm_inference(p.x, gamma, beta, *running, EPS, channel_axis=p.axis)
    p.grad[np.abs(z) < 1e-3] = 0
    frozen = (p.grad, p.x, gamma, beta, *running)
    got = call("batch_norm_inference_backward", *frozen, sums=True, eps=EPS)
    own = ops.batch_norm_inference_backward(*frozen, eps=EPS, **p.how)
    ref.assert_same_numbers(got[0], own[0])
    inv_std = 1 / np.sqrt(running[1].astype(np.float64) + EPS)
    expected = ref.batch_norm_inference_backward(*frozen, eps=EPS, **p.how)
    p.assert_gradients(got, expected, gamma, inv_std, running[0])
