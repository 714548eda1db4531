"""The devices of the tests: what is put there comes back, and lies where it is said to."""

from __future__ import annotations

import numpy as np
import pytest
from devices import array, require_dtype

import reference as ref

pytestmark = pytest.mark.short


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5, 2)], ids=str)
def test_arrays(device, rng, shape, dtype, offset):
    require_dtype(device, dtype)
    empty = device.empty(shape, dtype, offset)
    assert np.isnan(device.get(empty).astype(np.float64)).all()
    values = rng.normal(size=shape).astype(dtype)
    copy = array(device, values, offset)
    got = device.get(copy)
    assert (got.dtype, got.shape) == (values.dtype, shape)
    np.testing.assert_array_equal(got.view(np.uint8), values.view(np.uint8))
    if values.size and not device.host:
        assert device.pointer(copy) % 64 == offset * values.itemsize


def test_graphs_do_again_what_was_captured(device):
    from fusednn import ops

    x = array(device, np.array([1.0, -1.0], np.float32))
    y = device.empty((2,), np.float32)
    replay = device.graph(lambda: ops.leaky_relu(x, 0.5, out=y))
    np.testing.assert_array_equal(device.get(y), [1, -0.5])
    device.set(x, np.array([-4.0, 3.0], np.float32))
    replay()
    np.testing.assert_array_equal(device.get(y), [-2, 3])


def test_work_beside_another_stream(device):
    with device.busy():
        copy = array(device, np.ones(3, np.float32))
    np.testing.assert_array_equal(device.get(copy), 1)
