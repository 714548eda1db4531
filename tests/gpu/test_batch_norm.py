"""BatchNorm on a GPU: near the float64 reference, whatever the outputs and workspaces held."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from devices import array

import reference as ref
from fusednn import ops

SHORT = ((0, 3, 7), (1, 1, 1), (5, 7, 49), (3, 37, 1), (2, 3, 2000), (7, 1, 343), (2, 70, 8))
#: (outer, channels, inner), layout: kept on chip by a group of blocks, by one block, not at all;
#: 7 x 7 images, an odd number of channels.
LARGE = (
    *(((64, 64, 56 * 56), "NCHW"), ((16, 64, 112 * 112), "NCHW"), ((128, 513, 49), "NCHW")),
    *(((32, 256, 28 * 28), "NHWC"), ((8192, 1001, 1), "NHWC"), ((3, 2, 1_000_003), "NCHW")),
)
CASES = [
    *(
        pytest.param(*of, marks=pytest.mark.short)
        for of in itertools.product(SHORT, ("NCHW", "NHWC"), ref.DTYPES)
    ),
    *((*of, dtype) for of in LARGE for dtype in (ref.DTYPES[0], ref.DTYPES[3])),
]


@pytest.mark.parametrize(("shape", "layout", "dtype"), CASES, ids=str)
def test_forward_and_backward(on_device, shape, layout, dtype):
    layer = on_device(shape, layout, dtype)
    p = layer.p
    results = layer.forward()
    y, mean, inv_std = layer.get(results)
    p.assert_statistics(mean, inv_std)
    ref.assert_same_numbers(y, ops.batch_norm_apply(p.x, mean, inv_std, p.gamma, p.beta, **p.how))
    got = layer.get(layer.backward(layer.grad, layer.x, *results[1:]))
    expected = ref.batch_norm_backward(p.grad, p.x, p.gamma, p.beta, mean, inv_std, **p.how)
    p.assert_gradients(got, expected, p.gamma, inv_std, mean)


@pytest.mark.short
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_misaligned_views(on_device, layout, dtype):
    layer = on_device((5, 7, 49), layout, dtype)
    found = []
    for offset in (0, 1, 3):
        layer.place(offset)
        results = layer.forward()
        gradients = layer.backward(layer.grad, layer.x, *results[1:])
        found.append(layer.get([*results, *gradients]))
    for misaligned in found[1:]:
        for ours, theirs in zip(misaligned, found[0], strict=True):
            ref.assert_same_numbers(ours, theirs)


@pytest.mark.short
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_in_place_and_running_statistics(on_device, make, dtype):
    layer = on_device((4, 6, 98), "NCHW", dtype)
    p, device = layer.p, layer.device
    before = make.normal((6,), p.gamma.dtype), make.uniform((6,), p.gamma.dtype)
    running = [array(device, values) for values in before]
    statistics = dict(zip(("running_mean", "running_var"), running, strict=True))
    out = (layer.x, *layer.outputs()[1:])
    results = ops.batch_norm_forward(
        layer.x, layer.gamma, layer.beta, **statistics, momentum=0.3, out=out, **p.how
    )
    y, mean, inv_std = layer.get(results)
    p.assert_output(y, mean, inv_std, p.gamma, p.beta)
    expected = ref.running_statistics(p.x, *before, 0.3, True, p.axis)
    for actual, exact in zip(layer.get(running), expected, strict=True):
        ref.assert_near(actual, exact, ulps=4, scale=1.0)
    got = layer.get(
        ops.batch_norm_backward_from_output(
            layer.grad, layer.x, layer.gamma, layer.beta, results[2], out=layer.outputs(), **p.how
        )
    )
    expected = ref.batch_norm_backward_from_output(p.grad, y, p.gamma, p.beta, inv_std, **p.how)
    p.assert_gradients(got, expected, p.gamma, inv_std, np.zeros_like(inv_std), ulps=64)


@pytest.mark.short
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_frozen_layers(on_device, make, layout, dtype):
    layer = on_device((5, 7, 49), layout, dtype)
    p, own = layer.p, layer.p.gamma.dtype
    mean, var = make.normal((7,), own), make.uniform((7,), own)
    population = [array(layer.device, values) for values in (mean, var)]
    affine = layer.gamma, layer.beta
    got = layer.get(
        ops.batch_norm_inference_backward(
            layer.grad, layer.x, *affine, *population, out=layer.outputs(), **p.how
        )
    )
    given = p.grad, p.x, p.gamma, p.beta, mean, var
    ref.assert_same_numbers(got[0], ops.batch_norm_inference_backward(*given, **p.how)[0])
    exact = ref.batch_norm_inference_backward(*given, **p.how)
    root = 1 / np.sqrt(var.astype(np.float64) + 1e-5)
    p.assert_gradients(got, exact, p.gamma, root, mean)
