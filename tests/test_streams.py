"""Passes over memory: they touch what they should, and refuse what they cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import _core
from fusednn.benchmarks.inputs import aligned_empty

COUNT = 64 * 300  # more than one task


def arrays(*values: float, count: int = COUNT) -> list[np.ndarray]:
    made = [aligned_empty((count,), np.dtype(np.float32)) for _ in values]
    for array, value in zip(made, values, strict=True):
        array[:] = value + np.arange(count) % 7
    return made


@pytest.mark.parametrize("non_temporal", [False, True])
@pytest.mark.parametrize("count", [64, COUNT, 64 * 5000])
def test_output_is_the_sum(threads: int, count: int, non_temporal: bool) -> None:
    a, b, out = arrays(1, 2, 0, count=count)
    _core.stream([a], [], out, non_temporal)
    np.testing.assert_array_equal(out, a)
    _core.stream([a, b], [], out, non_temporal)
    np.testing.assert_array_equal(out, a + b)


@pytest.mark.parametrize("updated", [1, 2, 3, 4])
def test_updates_are_halved_running_sums(updated: int) -> None:
    grad, *states = arrays(*range(updated + 1))
    before = [state.copy() for state in states]
    _core.stream([grad], states, None, False)
    total = grad
    for state, old in zip(states, before, strict=True):
        total = total + old
        np.testing.assert_array_equal(state, total / 2)


def test_reading_and_a_lone_update() -> None:
    a, b = arrays(1, 2)
    before = a.copy(), b.copy()
    _core.stream([a], [], None, False)
    _core.stream([a, b], [], None, False)
    np.testing.assert_array_equal((a, b), before)
    _core.stream([], [a], None, False)
    np.testing.assert_array_equal(a, before[0] / 2)


def test_refusals() -> None:
    a, b, c = arrays(1, 2, 3)
    short = a[:64]
    odd = aligned_empty((65,), np.dtype(np.float32))
    wide = aligned_empty((COUNT,), np.dtype(np.float64))
    frozen = arrays(1)[0]
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"`inputs` must hold 1 to 2 arrays here. Received: 0"):
        _core.stream([], [], a, False)
    with pytest.raises(ValueError, match=r"`inputs` must hold 1 to 1 arrays here. Received: 2"):
        _core.stream([a, b], [c, short], None, False)
    with pytest.raises(ValueError, match=r"`updated` must hold 0 to 4 arrays here. Received: 5"):
        _core.stream([a], [b] * 5, None, False)
    with pytest.raises(ValueError, match="`output` must be NULL where arrays are updated"):
        _core.stream([a], [b], c, False)
    with pytest.raises(ValueError, match=r"`output` must have shape \(19200,\)"):
        _core.stream([a], [], short, False)
    with pytest.raises(ValueError, match=r"`inputs\[0\]` must start at a multiple of 64 bytes"):
        _core.stream([odd], [], None, False)
    with pytest.raises(ValueError, match=r"`inputs\[0\]` .* Received: misaligned data"):
        _core.stream([a[1:65]], [], None, False)
    with pytest.raises(TypeError, match=r"`output` must be float32. Received: dtype=float64"):
        _core.stream([a], [], wide, False)
    with pytest.raises(ValueError, match=r"`updated\[0\]` must not overlap `inputs\[0\]`"):
        _core.stream([a], [a], None, False)
    with pytest.raises(ValueError, match="must be writable"):
        _core.stream([a], [], frozen, False)
