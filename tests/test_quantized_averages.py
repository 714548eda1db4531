"""Averages kept in 8 bits over many steps: how near they stay to those of float32."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import ops
from fusednn.ops import quantized_state


def test_a_second_moment_keeps_its_mean(rng):
    """Rounding to nearest gives a quarter of it, for it cannot fall by a thousandth."""
    sigma = 10.0 ** rng.uniform(-3, 0, 2048).astype(np.float32)
    p, exact = np.zeros(2048, np.float32), np.zeros(2048, np.float32)
    state = quantized_state(p, signed=False)
    how = {"lr": 0.0, "rho": 0.999}
    for step in range(1, 3001):
        g = [(rng.standard_normal(2048) * sigma).astype(np.float32)]
        ops.rmsprop_step([p], g, [state], step=step, **how)
        ops.rmsprop_step([p], g, [exact], step=step, **how)
    ratio = state.dequantize() / exact
    assert abs(ratio.mean() - 1) < 0.03
    assert ratio.std() < 0.3
    assert 0.3 < ratio.min() < ratio.max() < 3


@pytest.mark.parametrize("decades", [1, 3])
def test_updates_of_adam_stay_near_those_of_float32(rng, decades):
    """Though gradients of one block differ by decades; linear codes err by a factor of 50."""
    sigma = 10.0 ** rng.uniform(-decades, 0, 1024).astype(np.float32)
    p8, p32 = np.zeros((2, 1024), np.float32)
    m8, v8 = quantized_state(p8), quantized_state(p8, signed=False)
    m32, v32 = np.zeros((2, 1024), np.float32)
    errors, sizes, largest = [], [], 0.0
    for step in range(1, 1501):
        g = [(rng.standard_normal(1024) * sigma).astype(np.float32)]
        before = p8.copy(), p32.copy()
        how = {"step": step, "lr": 1.0, "eps": 1e-12}
        ops.adam_step([p8], g, [m8], [v8], **how)
        ops.adam_step([p32], g, [m32], [v32], **how)
        if step > 500:
            u8, u32 = p8 - before[0], p32 - before[1]
            errors.append(np.mean((u8 - u32) ** 2))
            sizes.append(np.mean(u32**2))
            largest = max(largest, float(np.abs(u8).max()))
    assert np.sqrt(np.mean(errors) / np.mean(sizes)) < 0.2
    assert largest < 2.5
