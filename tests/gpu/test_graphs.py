"""Calls captured into a CUDA graph: a replay does the same with what lies in the arrays then."""

from __future__ import annotations

import numpy as np
import pytest
from devices import array
from test_optimizers import Lists

import reference as ref
from batch_norm_problem import Problem
from fusednn import ops

CASES = [
    pytest.param((5, 7, 49), "NCHW", marks=pytest.mark.short),
    pytest.param((130, 3, 7), "NHWC", marks=pytest.mark.short),
    *(((32, 64, 56 * 56), "NCHW"), ((16, 256, 28 * 28), "NHWC")),
]


@pytest.mark.parametrize("dtype", [ref.DTYPES[0], ref.DTYPES[3]], ids=str)
@pytest.mark.parametrize(("shape", "layout"), CASES, ids=str)
def test_batch_norm(on_device, make, shape, layout, dtype):
    layer = on_device(shape, layout, dtype)
    affine = layer.gamma, layer.beta
    outputs, gradients = layer.outputs(), layer.outputs()

    def work():
        ops.batch_norm_forward(layer.x, *affine, out=outputs, **layer.p.how)
        saved = outputs[1:]
        ops.batch_norm_backward(layer.grad, layer.x, *affine, *saved, out=gradients, **layer.p.how)

    replay = layer.device.graph(work)
    for _ in range(2):
        p = Problem(make, shape, dtype, layout, slope=0.1)
        for ours, values in ((layer.x, p.x), (layer.grad, p.grad)):
            layer.device.set(ours, values)
        for ours, values in ((layer.gamma, p.gamma), (layer.beta, p.beta)):
            layer.device.set(ours, values)
        for poisoned in (*outputs, *gradients):
            values = layer.device.get(poisoned)
            layer.device.set(poisoned, np.full_like(values, np.nan))
        replay()
        replayed = layer.get([*outputs, *gradients])
        results = layer.forward()
        expected = [*results, *layer.backward(layer.grad, layer.x, *results[1:])]
        for ours, theirs in zip(replayed, layer.get(expected), strict=True):
            ref.assert_same_numbers(ours, theirs)
        p.assert_statistics(*replayed[1:3])


@pytest.mark.short
@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_a_step_with_its_numbers_on_the_device(device, rng, kind):
    """Step, learning rate and scale are the device's: replays go on where the last one ended."""
    if device.host:
        pytest.skip("arrays on the CPU cannot hold a step's numbers")
    lists = Lists(device, rng, kind, {"ema_momentum": 0.9})
    step, lr, scale = (array(device, np.array([v], np.float32)) for v in (0.0, 0.1, 4.0))

    def work():
        lists.step(lists.gpu, step, lr=lr, grad_scale=scale)

    replay = device.graph(work)
    lists.step(lists.cpu, 1, lr=float(np.float32(0.1)), grad_scale=4.0)
    for t in range(2, 6):
        rate = np.float32(0.1 / t)
        device.set(lr, rate.reshape(1))
        lists.set_grads(rng)
        replay()
        lists.step(lists.cpu, t, lr=float(rate), grad_scale=4.0)
        assert device.get(step) == t
    lists.assert_same()
