"""Products of matrices that stay where they are: values, the same bits, who computes them."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn import _core, blas_threads, openblas
from fusednn.devices.products import bound_product
from loaded_library import loaded_library

needs_openblas = pytest.mark.skipif(
    openblas.products() is None, reason="NumPy's BLAS is no OpenBLAS"
)

#: Below a cut, cut in even and uneven blocks, and above.
SHAPES = [(2, 2, 2), (3, 97, 5), (32, 100, 100), (97, 41, 101), (5, 300, 200), (97, 89, 83)]


def matrix(rows: int, columns: int, dtype: str, *, turned: bool, seed: int = 0) -> np.ndarray:
    """In C order, or the transpose of one that is; in either case a part of a wider one."""
    shape = (columns, rows + 3) if turned else (rows, columns + 3)
    wide = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return wide[:, :rows].T if turned else wide[:, :columns]


@needs_openblas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape: tuple[int, int, int], turned: tuple[bool, bool], dtype: str) -> None:
    rows, inner, columns = shape
    a = matrix(rows, inner, dtype, turned=turned[0])
    b = matrix(inner, columns, dtype, turned=turned[1], seed=1)
    whole = np.full((rows + 1, columns + 2), np.nan, dtype)
    multiply = bound_product(a, b, whole[:rows, :columns])
    assert not isinstance(multiply, partial)
    for scale in (1, 3):
        a[...] *= scale  # what the arrays hold now counts
        multiply()
        expected = a.astype(float) @ b.astype(float)
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(
            whole[:rows, :columns], expected, rtol=tolerance, atol=20 * tolerance
        )
    assert np.isnan(whole[rows]).all()
    assert np.isnan(whole[:, columns:]).all()


@needs_openblas
@pytest.mark.parametrize("shape", SHAPES[:-1])  # the last is cut by OpenBLAS
def test_the_same_bits_with_any_number_of_threads(shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    a = matrix(rows, inner, "float32", turned=False)
    b = matrix(inner, columns, "float32", turned=False, seed=1)
    before = fusednn.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            fusednn.set_num_threads(threads)
            for share in (False, True):
                with blas_threads.shared_blas_threads() if share else ThreadPoolExecutor(1):
                    out = np.empty((rows, columns), np.float32)
                    bound_product(a, b, out)()
                    results.append(out)
    finally:
        fusednn.set_num_threads(before)
    for result in results:
        np.testing.assert_array_equal(result, results[0])


@needs_openblas
def test_several_threads_of_python_at_once() -> None:
    """The kernels' threads are one call's at a time; the others compute alone."""
    a = matrix(32, 100, "float32", turned=False)
    b = matrix(100, 100, "float32", turned=False, seed=1)
    outs = [np.empty((32, 100), np.float32) for _ in range(4)]

    def repeat(out: np.ndarray) -> None:
        multiply = bound_product(a, b, out)
        for _ in range(200):
            multiply()

    with blas_threads.shared_blas_threads(), ThreadPoolExecutor(4) as pool:
        list(pool.map(repeat, outs))
    for out in outs:
        np.testing.assert_array_equal(out, outs[0])
    np.testing.assert_allclose(outs[0], a @ b, rtol=1e-4, atol=1e-4)


@needs_openblas
def test_arrays_live_as_long_as_the_function() -> None:
    out = np.zeros((7, 5), np.float32)
    multiply = bound_product(np.ones((7, 97), np.float32), np.ones((97, 5), np.float32), out)
    gc.collect()
    filling = [np.full((7, 97), 9, np.float32) for _ in range(50)]
    multiply()
    assert (out == 97).all()
    assert len(filling) == 50


def arrays(a: tuple[int, ...], b: tuple[int, ...], dtype: Any = np.float32) -> list[np.ndarray]:
    return [np.ones(a, dtype), np.ones(b, dtype), np.zeros((a[0], b[1]), dtype)]


square = np.ones((6, 6), np.float32)


@pytest.mark.parametrize(
    "operands",
    [
        arrays((1, 5), (5, 3)),
        arrays((3, 5), (5, 1)),
        arrays((3, 1), (1, 3)),
        arrays((3, 0), (0, 3)),
        arrays((3, 5), (5, 4), np.float16),
        arrays((3, 5), (5, 4), np.int64),
        arrays((3, 5), (5, 4), ">f4"),
        [np.ones((3, 10), np.float32)[:, ::2], *arrays((3, 5), (5, 4))[1:]],
        [np.ones((3, 5), np.float32), np.ones((5, 4)), np.zeros((3, 4))],
        [square, square.T, np.zeros((6, 6), np.float32)],
    ],
)
def test_others_are_left_to_numpy(operands: list[np.ndarray]) -> None:
    multiply = bound_product(*operands)
    assert isinstance(multiply, partial)
    multiply()
    np.testing.assert_array_equal(operands[2], operands[0] @ operands[1])


def test_an_output_that_is_an_input() -> None:
    a = np.arange(36, dtype=np.float32).reshape(6, 6)
    expected = a @ square
    bound_product(a, square, a)()
    np.testing.assert_array_equal(a, expected)


def test_another_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openblas, "products", lambda: None)
    operands = arrays((3, 5), (5, 4))
    multiply = bound_product(*operands)
    assert isinstance(multiply, partial)
    multiply()
    assert (operands[2] == 5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": np.ones(5, np.float32)}, "`a` must be a matrix of NumPy"),
        ({"a": [[1.0]]}, "`a` must be a matrix of NumPy"),
        ({"b": np.ones((5, 8), np.float32)[:, ::2]}, "`b` must be a matrix with elements side by"),
        ({"b": np.ones((6, 4), np.float32)}, "`out` must be writable, in C order and of the prod"),
        ({"out": np.ones((4, 3), np.float32).T}, "`out` must be writable, in C order and of the"),
        ({"item": "x"}, "`item` must be an integer"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], message: str) -> None:
    a, b, out = arrays((3, 5), (5, 4))
    given = {"a": a, "b": b, "out": out, "gemm": 0, "item": 4, "wide": True} | change
    with pytest.raises((TypeError, ValueError), match=message):
        _core.matrix_product(**given)


def test_read_only_output() -> None:
    a, b, out = arrays((3, 5), (5, 4))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="`out` must be writable"):
        _core.matrix_product(a, b, out, 0, 4, True)


@pytest.mark.parametrize("count", [0, 1, 7, 97])
def test_tasks_of_c_run_once_each(count: int) -> None:
    library = loaded_library()
    task_type = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
    done = (ctypes.c_int * max(count, 1))()

    def task(index: int, data: Any) -> None:
        data[index] += index + 1

    library.fnn_run_tasks.restype = None
    library.fnn_run_tasks(task_type(task), count, done)
    assert list(done)[:count] == [i + 1 for i in range(count)]


def test_blas_with_integers_of_32_bits() -> None:
    scipy = pytest.importorskip("scipy")
    folder = Path(scipy.__file__).parents[1] / "scipy.libs"
    library = next(folder.glob("libscipy_openblas*.so"), None)
    if library is None or not hasattr(ctypes.CDLL(str(library)), "scipy_cblas_dgemm"):
        pytest.skip("SciPy has another BLAS")
    gemm = ctypes.cast(ctypes.CDLL(str(library)).scipy_cblas_dgemm, ctypes.c_void_p).value
    a, b = matrix(7, 97, "float64", turned=True), matrix(97, 5, "float64", turned=False)
    out = np.empty((7, 5))
    _core.matrix_product(a, b, out, gemm, 8, False)()
    np.testing.assert_allclose(out, a @ b, rtol=1e-12)


@needs_openblas
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of kernels for other processors")
@pytest.mark.parametrize("forced", ["Haswell", None])
def test_whose_kernels_openblas_uses_is_told(forced: str | None) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    if forced:
        env["OPENBLAS_CORETYPE"] = forced
    program = "from fusednn import openblas; print(openblas.description())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    name, kernels = done.stdout.strip().split(", kernels for ")
    assert "openblas" in name.lower()
    assert kernels.isalnum() if forced is None else kernels == f"{forced} (OPENBLAS_CORETYPE)"
