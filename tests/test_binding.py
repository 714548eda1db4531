"""What the compiled module does between Python and the C API, where no kernel is involved."""

import sys
import threading
import time

import numpy as np
import pytest

from fusednn import _core, ops

SMALL, LARGE = (4, 3), (600, 100)  # below and above the size from which the GIL is released


def test_wrong_number_of_arguments():
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match=r"`leaky_relu` takes 3 positional arguments\. Received: 2"):
        _core.leaky_relu(x, 0.1)
    with pytest.raises(TypeError, match="Received: 4"):
        _core.leaky_relu(x, 0.1, x, x)
    with pytest.raises(TypeError, match="keyword"):
        _core.leaky_relu(x, 0.1, out=x)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_errors_of_every_layer_reach_python(shape):
    x = np.ones(shape, np.float32)
    with pytest.raises(TypeError, match="`negative_slope` must be a number"):
        ops.leaky_relu(x, "much", out=x)
    with pytest.raises(ValueError, match="`negative_slope` must be finite"):
        ops.leaky_relu(x, float("inf"), out=x)
    assert (x == 1).all()


def test_calls_leave_no_references_behind():
    x, y = np.ones(SMALL, np.float32), np.empty(SMALL, np.float32)
    gamma, mean, inv_std = np.ones((3, 3), np.float32)
    strided = np.ones((4, 6), np.float32)[:, ::2]
    arrays = (x, y, gamma, mean, inv_std, strided, x.dtype)
    before = [sys.getrefcount(a) for a in arrays]
    for _ in range(10):
        ops.batch_norm_forward(x, gamma, None, out=(y, mean, inv_std))
        ops.batch_norm_forward(strided, gamma, None, out=(y, mean, inv_std))
        ops.leaky_relu(x, out=y)
        with pytest.raises(ValueError, match="momentum"):
            ops.batch_norm_forward(x, gamma, None, momentum=2.0, out=(y, mean, inv_std))
    assert [sys.getrefcount(a) for a in arrays] == before


def test_numbers_that_c_uses_for_errors():
    x = np.array([[-2.0, 4.0]], np.float32)
    assert ops.leaky_relu(x, -1.0).tolist() == [[2.0, 4.0]]
    last = ops.batch_norm_statistics(x.T.copy(), channel_axis=-1)
    assert last[2] == 2
    assert last[0].tolist() == [1.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "bfloat16"])
def test_dtypes_are_known_by_any_of_their_objects(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    known = np.dtype(dtype)
    other = np.dtype(dtype, metadata={"unit": "m"})
    assert other is not known
    for descr in (known, other, known, other):
        x = np.array([-1.0, 2.0], descr)
        assert x.dtype is descr
        assert ops.leaky_relu(x, 0.5).astype(np.float64).tolist() == [-0.5, 2.0]
    for spoilt in (np.dtype(np.int32), np.dtype(">f4")):
        for _ in range(2):
            with pytest.raises(TypeError, match="`x` must be float32"):
                ops.leaky_relu(np.zeros(2, spoilt))


def test_more_dtype_objects_than_are_remembered():
    for i in range(20):
        x = np.array([-1.0, 2.0], np.dtype(np.float32, metadata={"i": i}))
        assert ops.leaky_relu(x, 0.5).tolist() == [-0.5, 2.0]


def test_subclasses_of_arrays_are_arrays():
    class Named(np.ndarray):
        pass

    x = np.array([-1.0, 2.0], np.float32)
    out = np.empty(2, np.float32)
    ops.leaky_relu(x.view(Named), 0.5, out=out.view(Named))
    assert out.tolist() == [-0.5, 2.0]


@pytest.mark.parametrize(("shape", "released"), [(SMALL, False), ((2000, 1000), True)])
def test_other_threads_run_during_long_calls(shape, released):
    x = np.ones(shape, np.float32)
    y = np.empty_like(x)
    turns = 0
    stopped = False

    def count():
        nonlocal turns
        while not stopped:
            turns += 1
            time.sleep(0)  # gives the GIL back

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)  # nobody is made to give it away
    thread = threading.Thread(target=count)
    try:
        thread.start()
        before = turns
        for _ in range(100):
            ops.leaky_relu(x, out=y)
        during = turns - before
    finally:
        sys.setswitchinterval(interval)
        stopped = True
        thread.join()
    assert (during > 0) == released


@pytest.mark.parametrize("given", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_outputs_that_are_given_are_used_and_others_made(given):
    x = np.arange(12, dtype=np.float64).reshape(SMALL)
    expected = ops.batch_norm_forward(x, None, None)
    buffers = (np.empty(SMALL), np.empty(3), np.empty(3))
    out = tuple(b if i in given else None for i, b in enumerate(buffers))
    results = ops.batch_norm_forward(x, None, None, out=out)
    for i in range(3):
        assert (results[i] is buffers[i]) == (i in given)
        assert results[i].dtype == np.float64
        np.testing.assert_array_equal(results[i], expected[i])
