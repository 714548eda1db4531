"""Which elements a leaf of the CUDA kernels consists of, where these are too many for 32 bits.

Arrays of that size are not needed for it: the windows are asked for that threads would read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
from batch_norm_on_device import BatchNormProblem
from simulator import Simulator, library

import reference as ref

THREADS, PER_WINDOW = 256, 8
#: Outer, channels, inner: more than 2^32 elements because of each of them.
RUNS = ((5, 2**20 + 1, 4099), (3, 2, 2**33 + 5), (2**22 + 1, 67, 49))
COLUMNS = ((2**21 + 43, 8195, 1), (2**33 + 1, 3, 1), (2400, 2**26 + 1, 1))


class Leaf(ctypes.Structure):
    _fields_ = [("strip", ctypes.c_int64), ("number", ctypes.c_int64)]


@pytest.fixture(scope="module")
def drivers_library() -> Simulator:
    return Simulator(library("fusednn_cuda_sim"))


@pytest.fixture
def simulator(drivers_library: Simulator) -> Iterator[Simulator]:
    drivers_library.reset()
    yield drivers_library
    drivers_library.reset()


def elements(
    simulator: Simulator, shape: tuple[int, int, int], strip: int, number: int
) -> tuple[np.ndarray, Leaf]:
    """The elements of a leaf in order; where its place is negative, of the last one."""
    problem = BatchNormProblem(dtype=ref.DTYPES.index(np.dtype(ml_dtypes.bfloat16)))
    problem.outer, problem.channels, problem.inner = shape
    windows = simulator.empty((8, THREADS, 2), np.dtype(np.int64))
    leaf = Leaf(strip, number)
    status = simulator.functions.simulated_leaf(
        ctypes.byref(problem), ctypes.byref(leaf), windows.address
    )
    assert status == 0, simulator.report
    first, chosen = np.moveaxis(windows.get().reshape(-1, 2), 1, 0)
    within = np.arange(PER_WINDOW)
    every = first[:, None] + within
    return np.sort(every[(chosen[:, None] >> within & 1).astype(bool)]), leaf


@pytest.mark.parametrize("shape", RUNS, ids=str)
def test_runs(simulator, shape):
    """A leaf is neighbours among its channel's elements, where the leaf before ended."""
    outer, channels, inner = shape
    for channel in (0, channels // 2, -1):
        ends = []
        for number in (0, 1, -1):
            found, leaf = elements(simulator, shape, channel, number)
            assert (found // inner % channels == leaf.strip).all()
            place = found // (inner * channels) * inner + found % inner
            assert len(place) > 0
            np.testing.assert_array_equal(place, np.arange(place[0], place[0] + len(place)))
            ends.append((int(place[0]), int(place[-1]) + 1))
        assert ends[0][0] == 0
        assert ends[0][1] == ends[1][0]
        assert ends[2][1] == outer * inner
        assert leaf.strip == (channels - 1 if channel < 0 else channel)


@pytest.mark.parametrize("shape", COLUMNS, ids=str)
def test_columns(simulator, shape):
    """A leaf is some rows of a strip of columns, where the leaf before ended."""
    rows, channels, _ = shape
    total, width = rows * channels, channels
    while width % PER_WINDOW:
        width += channels
    width *= max(1, 64 // width)
    for strip in (0, width // 64 // 2, -1):
        ends = []
        for number in (0, 1, -1):
            found, leaf = elements(simulator, shape, strip, number)
            first, last = int(found[0]) // width, int(found[-1]) // width
            begin = 64 * leaf.strip
            columns = np.arange(begin, min(begin + 64, width))
            expected = (np.arange(first, last + 1)[:, None] * width + columns).reshape(-1)
            np.testing.assert_array_equal(found, expected[expected < total])
            ends.append((first, last + 1))
        assert ends[0][0] == 0
        assert ends[0][1] == ends[1][0]
        assert ends[2][1] * width + begin >= total
        assert leaf.strip == (-(-width // 64) - 1 if strip < 0 else strip)
