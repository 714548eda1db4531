"""Passes over the simulated device's memory: what those over the CPU's compute."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import _core

COUNTS = (0, 64, 64 * 63, 64 * 301)


@pytest.mark.parametrize("non_temporal", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_output_is_the_sum(gpu, count, non_temporal):
    a, b = (np.arange(count, dtype=np.float32) % 7 + i for i in (1, 2))
    x, y, out = gpu.array(a), gpu.array(b), gpu.empty(count)
    _core.stream([x], [], out, non_temporal)
    np.testing.assert_array_equal(out.get(), a)
    _core.stream([x, y], [], out, non_temporal)
    np.testing.assert_array_equal(out.get(), a + b)
    _core.stream([x, y], [], None, non_temporal)
    np.testing.assert_array_equal((x.get(), y.get()), (a, b))


@pytest.mark.parametrize("updated", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("count", COUNTS)
def test_updates_are_halved_running_sums(gpu, count, updated):
    values = [np.arange(count, dtype=np.float32) % 5 + i for i in range(5)]
    arrays = [gpu.array(v) for v in values]
    if updated == 0:
        _core.stream([], arrays[:1], None, False)
        np.testing.assert_array_equal(arrays[0].get(), values[0] / 2)
        return
    _core.stream(arrays[:1], arrays[1 : 1 + updated], None, True)
    total = values[0]
    for array, before in zip(arrays[1 : 1 + updated], values[1:], strict=False):
        total = total + before
        np.testing.assert_array_equal(array.get(), total / 2)
    for array, before in zip(arrays[1 + updated :], values[1 + updated :], strict=True):
        np.testing.assert_array_equal(array.get(), before)


def test_all_arrays_are_on_one_device(gpu):
    x, y = gpu.array(np.ones(64, np.float32)), np.ones(64, np.float32)
    message = "`output` must be on the device of the other arrays, cuda:0. Received: device=cpu"
    with pytest.raises(ValueError, match=message):
        _core.stream([x], [], y, False)
    with pytest.raises(ValueError, match=r"`inputs\[0\]` must start at a multiple of 64 bytes"):
        _core.stream([gpu.array(np.ones(64, np.float32), offset=16)], [], None, False)
