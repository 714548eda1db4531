"""The same call gives the same bits twenty times, also while another stream has work."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from test_optimizers import Lists

import reference as ref

TIMES = 20
LAYERS = [
    pytest.param((5, 7, 49), "NCHW", marks=pytest.mark.short),
    pytest.param((130, 3, 7), "NHWC", marks=pytest.mark.short),
    *(((32, 64, 56 * 56), "NCHW"), ((16, 256, 28 * 28), "NHWC"), ((3, 2, 1_000_003), "NCHW")),
]
SIZES = [pytest.param((300, 0, 1, 20_000), marks=pytest.mark.short), (3_000_000, *range(300))]


def beside(device, busy):
    return device.busy() if busy else nullcontext()


def assert_all_same(runs):
    first = next(runs)
    for arrays in runs:
        for ours, theirs in zip(arrays, first, strict=True):
            np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8))


@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside a stream"])
@pytest.mark.parametrize("dtype", [ref.DTYPES[0], ref.DTYPES[3]], ids=str)
@pytest.mark.parametrize(("shape", "layout"), LAYERS, ids=str)
def test_batch_norm(on_device, shape, layout, dtype, busy):
    layer = on_device(shape, layout, dtype)
    with beside(layer.device, busy):
        runs = []
        for _ in range(TIMES):
            results = layer.forward()
            gradients = layer.backward(layer.grad, layer.x, *results[1:])
            runs.append([*results, *gradients])
    assert_all_same(layer.get(arrays) for arrays in runs)


@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside a stream"])
@pytest.mark.parametrize("sizes", SIZES, ids=len)
def test_clipped_steps(device, rng, sizes, busy):
    """A norm over the list is the one sum in an optimizer's step."""
    lists = Lists(device, rng, "adam", {"max_norm": 1.0}, sizes)
    start = {name: [a.copy() for a in arrays] for name, arrays in lists.cpu.items()}
    runs = []
    for _ in range(TIMES):
        for name, arrays in lists.gpu.items():
            for ours, values in zip(arrays, start[name], strict=True):
                device.set(ours, values)
        with beside(device, busy):
            lists.step(lists.gpu, 1)
        runs.append([device.get(a) for a in lists.gpu["params"]])
    assert_all_same(iter(runs))
