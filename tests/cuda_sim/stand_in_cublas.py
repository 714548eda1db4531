"""A stand-in for cuBLAS: its functions as ctypes presents them, on the simulated memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np


class Cublas:
    """cuBLAS as ctypes presents it: column-major products of addresses."""

    def __init__(self, give: Callable[[Callable[[], object]], None], stream: int) -> None:
        self._give, self._stream = give, stream
        self.calls = 0

    def cublasCreate_v2(self, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 7
        return 0

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:  # noqa: N802
        assert (handle.value, stream.value) == (7, self._stream)
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, workspace: Any, size: Any) -> int:  # noqa: N802
        assert workspace.value % 256 == 0
        return 0 if size.value else 1

    def cublasSgemm_v2(self, *arguments: Any) -> int:  # noqa: N802
        return self._gemm(ctypes.c_float, *arguments)

    def cublasDgemm_v2(self, *arguments: Any) -> int:  # noqa: N802
        return self._gemm(ctypes.c_double, *arguments)

    def _gemm(self, kind: Any, handle: Any, *arguments: Any) -> int:
        self.calls += 1
        numbers = [a._obj.value if hasattr(a, "_obj") else a.value for a in arguments]
        trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = numbers
        assert handle.value == 7
        assert ldc >= m
        left = self._matrix(kind, a, *((m, k) if trans_a == 0 else (k, m)), lda)
        right = self._matrix(kind, b, *((k, n) if trans_b == 0 else (n, k)), ldb)
        target = self._matrix(kind, c, m, n, ldc)

        def multiply() -> None:
            product = (left.T if trans_a else left) @ (right.T if trans_b else right)
            target[...] = alpha * product if beta == 0 else alpha * product + beta * target

        self._give(multiply)
        return 0

    def _matrix(self, kind: Any, address: int, rows: int, columns: int, step: int) -> np.ndarray:
        assert step >= max(1, rows)
        count = (columns - 1) * step + rows
        flat = np.ctypeslib.as_array((kind * count).from_address(address))
        return np.lib.stride_tricks.as_strided(
            flat, (rows, columns), (flat.itemsize, step * flat.itemsize)
        )
