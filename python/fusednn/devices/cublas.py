"""Matrix products of cuBLAS, called directly.

CuPy refuses to call cuBLAS while a CUDA graph is captured, though cuBLAS allows it. So its
functions are called in the library that CuPy has loaded, with a handle of our own. The handle works
on one stream, with a workspace that we give it, so that no call allocates. Its mathematics is the
default one: no TensorFloat-32.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from fusednn.devices.base import Array

#: What NVIDIA recommends for GPUs of capability 9.0 and above.
WORKSPACE = 32 << 20

_AS_IT_LIES, _TRANSPOSED = 0, 1


def load_library(major: int) -> Any:
    """Load cuBLAS of this version of CUDA; CuPy has loaded it from wherever it lies.

    Raises
    ------
    RuntimeError
        It is not there.
    """
    reasons = []
    loaded = {
        line.split(maxsplit=5)[5]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libcublas.so" in line
    }
    for name in [*sorted(loaded), f"libcublas.so.{major}"]:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    raise RuntimeError(f"cuBLAS of CUDA {major} could not be loaded: {'; '.join(reasons)}")


class Cublas:
    """A handle of cuBLAS.

    Parameters
    ----------
    library
        Of `load_library`.
    stream : int
        Address of the stream that all products are given to.
    workspace : int
        Address of `WORKSPACE` bytes on the current device, for as long as this lives.
    """

    def __init__(self, library: Any, stream: int, workspace: int) -> None:
        self._handle = ctypes.c_void_p()
        _check(library.cublasCreate_v2(ctypes.byref(self._handle)), "cublasCreate")
        _check(library.cublasSetStream_v2(self._handle, ctypes.c_void_p(stream)), "cublasSetStream")
        # After the stream, which takes the workspace away.
        _check(
            library.cublasSetWorkspace_v2(
                self._handle, ctypes.c_void_p(workspace), ctypes.c_size_t(WORKSPACE)
            ),
            "cublasSetWorkspace",
        )
        # cuBLAS reads both factors before the call returns.
        self._of_dtype = {
            np.dtype(np.float32): (
                library.cublasSgemm_v2,
                ctypes.byref(ctypes.c_float(1)),
                ctypes.byref(ctypes.c_float(0)),
            ),
            np.dtype(np.float64): (
                library.cublasDgemm_v2,
                ctypes.byref(ctypes.c_double(1)),
                ctypes.byref(ctypes.c_double(0)),
            ),
        }

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        """Write ``a @ b`` to `out`; see `Device.matmul`.

        cuBLAS' matrices lie column after column, so that for it each of ours is its transpose: it
        computes ``out.T = b.T @ a.T``.
        """
        rows, inner = a.shape
        columns = b.shape[1]
        if rows == 0 or columns == 0:
            return
        if inner == 0:
            out.fill(0)
            return
        function, one, zero = self._of_dtype[out.dtype]
        b_order, b_step = _layout(b)
        a_order, a_step = _layout(a)
        status = function(
            self._handle,
            ctypes.c_int(b_order),
            ctypes.c_int(a_order),
            ctypes.c_int(columns),
            ctypes.c_int(rows),
            ctypes.c_int(inner),
            one,
            ctypes.c_void_p(_address(b)),
            ctypes.c_int(b_step),
            ctypes.c_void_p(_address(a)),
            ctypes.c_int(a_step),
            zero,
            ctypes.c_void_p(_address(out)),
            ctypes.c_int(columns),
        )
        _check(status, "cuBLAS' matrix product")


def _layout(matrix: Array) -> tuple[int, int]:
    """Return how cuBLAS has to read a matrix, and its elements from one line to the next."""
    rows, columns = matrix.shape
    if matrix.flags.c_contiguous:
        return _AS_IT_LIES, columns
    return _TRANSPOSED, rows


def _address(array: Any) -> int:
    address: int = array.data.ptr  # CuPy's
    return address


def _check(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"{what} failed: status {status} of cuBLAS")
