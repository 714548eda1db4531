"""Products that are cut for the kernels' threads: values, two at once, who has how many threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import fusednn
from fusednn import _core, blas_threads
from fusednn.devices.products import both_products, bound_product
from fusednn.utils import share_blas_threads

pytestmark = pytest.mark.skipif(
    not blas_threads.can_share_blas_threads(), reason="NumPy's BLAS cannot share threads"
)

#: Rows, inner axis, columns: cut by rows, by columns, and by the inner axis, evenly and not.
SHAPES = [
    (97, 89, 83),
    (784, 32, 300),
    (32, 97, 301),
    (61, 784, 300),
    (32, 1501, 97),
    (7, 4097, 41),
]


@pytest.fixture(params=[1, 2, 3])
def shared(request: pytest.FixtureRequest) -> Iterator[int]:
    """The number of threads that products and kernels share."""
    before = fusednn.get_num_threads()
    fusednn.set_num_threads(request.param)
    assert share_blas_threads()
    yield request.param
    share_blas_threads(False)
    fusednn.set_num_threads(before)


def blas_num_threads() -> int:
    found = blas_threads._find_openblas()
    assert not isinstance(found, str)
    return found.num_threads


def matrix(rows: int, columns: int, dtype: str, *, turned: bool = False) -> np.ndarray:
    """In C order, or the transpose of one that is; in either case a part of a wider one."""
    shape = (columns, rows + 3) if turned else (rows, columns + 3)
    wide = np.random.default_rng(rows).standard_normal(shape).astype(dtype)
    return wide[:, :rows].T if turned else wide[:, :columns]


def assert_product(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    tolerance = 1e-5 if out.dtype == np.float32 else 1e-13
    expected = a.astype(float) @ b.astype(float)
    scale = np.sqrt(a.shape[1])
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=5 * scale * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(
    shape: tuple[int, int, int], turned: tuple[bool, bool], dtype: str, shared: int
) -> None:
    rows, inner, columns = shape
    a = matrix(rows, inner, dtype, turned=turned[0])
    b = matrix(inner, columns, dtype, turned=turned[1])
    whole = np.full((rows + 1, columns + 2), np.nan, dtype)
    multiply = bound_product(a, b, whole[:rows, :columns])
    for _ in range(2):
        multiply()
        assert_product(whole[:rows, :columns], a, b)
    assert np.isnan(whole[rows]).all()
    assert np.isnan(whole[:, columns:]).all()
    assert blas_num_threads() == shared


@pytest.mark.parametrize("first", [(7, 5, 3), (32, 100, 100), (32, 1501, 97)])
@pytest.mark.parametrize("second", [(97, 41, 5), (61, 784, 300)])
def test_two_at_once(
    first: tuple[int, int, int], second: tuple[int, int, int], shared: int
) -> None:
    """Whatever blocks each is cut into."""
    products = []
    for rows, inner, columns in (first, second):
        out = np.full((rows, columns), np.nan, "float32")
        products.append((matrix(rows, inner, "float32"), matrix(inner, columns, "float32"), out))
    multiply = both_products(*(bound_product(*operands) for operands in products))
    for _ in range(2):
        multiply()
        for a, b, out in products:
            assert_product(out, a, b)
            out.fill(np.nan)
    assert blas_num_threads() == shared


def test_two_of_which_one_is_left_to_numpy() -> None:
    made = []
    both_products(partial(made.append, 1), partial(made.append, 2))()
    assert made == [1, 2]


def product_of_ones(*, rows: int = 7) -> Callable[[], None]:
    return bound_product(np.ones((rows, 5), "f4"), np.ones((5, 4), "f4"), np.empty((rows, 4), "f4"))


def test_two_of_which_one_is_no_product() -> None:
    single = product_of_ones()
    with pytest.raises(TypeError, match="`second` must be what `matrix_product` returned"):
        _core.matrix_products(single, len)
    with pytest.raises(TypeError, match="`first` must be what `matrix_product` returned"):
        _core.matrix_products(None, single)
    with pytest.raises(TypeError, match=r"`second` must be one product.*Received: 2 products"):
        _core.matrix_products(single, _core.matrix_products(single, single))


def test_several_threads_of_python_at_once() -> None:
    """OpenBLAS gets its threads back after the last of them."""
    a, b = matrix(61, 784, "float32"), matrix(784, 300, "float32")
    outs = [np.empty((61, 300), np.float32) for _ in range(4)]

    def repeat(out: np.ndarray) -> None:
        multiply = bound_product(a, b, out)
        for _ in range(50):
            multiply()
            a @ b

    before = fusednn.get_num_threads()
    fusednn.set_num_threads(2)
    try:
        with blas_threads.shared_blas_threads(), ThreadPoolExecutor(4) as pool:
            list(pool.map(repeat, outs))
            assert blas_num_threads() == 2
    finally:
        fusednn.set_num_threads(before)
    for out in outs:
        assert_product(out, a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_is_forked_during_a_product(shared: int) -> None:
    """It has a right result and the same number of threads as its parent."""
    a, b, out = matrix(61, 784, "float32"), matrix(784, 300, "float32"), np.empty((61, 300), "f4")
    multiply = bound_product(a, b, out)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            multiply()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            time.sleep(0.001)
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                own = np.empty((61, 300), "f4")
                bound_product(a, b, own)()
                right = np.allclose(own, a @ b, atol=1e-3) and blas_num_threads() == shared
                os._exit(0 if right else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        worker.join()
