"""The arrays that the steps of one plan write to, allocated once and reused by every batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_ALIGNMENT = 64  # bytes of a cache line, and of the widest vector register


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Uninitialised array that starts on a cache line, so that kernels need not peel."""
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)


class _Alternating:
    """Two arrays used in turn: what is read lies in one, what is written in the other."""

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        self._memory = [aligned_empty((size,), dtype) for _ in range(2)]

    def next(self, shape: tuple[int, ...]) -> Array:
        self._memory.reverse()
        return self._memory[0][: math.prod(shape)].reshape(shape)


class Buffers:
    """Memory of one plan.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of activations and gradients.
    largest : int
        Elements of the largest activation, the input's included.
    keep_outputs : bool
        True where a backward pass will read the outputs again: each gets an array of its own.
        Else two arrays alternate, and stay in cache.
    """

    def __init__(self, dtype: np.dtype[Any], largest: int, *, keep_outputs: bool) -> None:
        self.dtype = dtype
        self._largest = largest
        self._outputs = None if keep_outputs else _Alternating(largest, dtype)
        self._gradients: _Alternating | None = None
        self._temporaries: _Alternating | None = None

    def output(self, shape: tuple[int, ...]) -> Array:
        """Array for the output of the next step."""
        if self._outputs is None:
            return aligned_empty(shape, self.dtype)
        return self._outputs.next(shape)

    def gradient(self, shape: tuple[int, ...]) -> Array:
        """Array for a gradient; only the one handed out before it stays valid beside it."""
        if self._gradients is None:
            self._gradients = _Alternating(self._largest, self.dtype)
        return self._gradients.next(shape)

    def temporary(self, shape: tuple[int, ...]) -> Array:
        """Array for an intermediate result within one step; one step may take two."""
        if self._temporaries is None:
            self._temporaries = _Alternating(self._largest, self.dtype)
        return self._temporaries.next(shape)
