"""The arrays that the steps of one plan write to, allocated once and reused by every batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fusednn.devices import CPU, Device

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

    def __init__(self, size: int, make: Callable[[tuple[int, ...]], Array]) -> None:
        self._memory = [make((size,)) for _ in range(2)]

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
    device : Device
        Where the steps compute.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        largest: int,
        *,
        keep_outputs: bool,
        device: Device = CPU,
    ) -> None:
        self.dtype = dtype
        self.device = device
        self._largest = largest
        self._outputs = None if keep_outputs else _Alternating(largest, self._aligned)
        self._gradients: _Alternating | None = None
        self._temporaries: _Alternating | None = None

    def output(self, shape: tuple[int, ...]) -> Array:
        """Array for the output of the next step."""
        if self._outputs is None:
            return self._aligned(shape)
        return self._outputs.next(shape)

    def gradient(self, shape: tuple[int, ...]) -> Array:
        """Array for a gradient; only the one handed out before it stays valid beside it."""
        if self._gradients is None:
            self._gradients = _Alternating(self._largest, self._aligned)
        return self._gradients.next(shape)

    def temporary(self, shape: tuple[int, ...]) -> Array:
        """Array for an intermediate result within one step; one step may take two."""
        if self._temporaries is None:
            self._temporaries = _Alternating(self._largest, self._aligned)
        return self._temporaries.next(shape)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Array:
        """Array of a step's own, of `dtype` if not given another type."""
        return self.device.empty(shape, self.dtype if dtype is None else dtype)

    def ones(self, shape: tuple[int, ...]) -> Array:
        """Array of ones."""
        return self.device.full(shape, 1, self.dtype)

    def scalar(self, value: float) -> Any:
        """Return a number as ufuncs take it fastest beside these arrays."""
        return self.device.scalar(value, self.dtype)

    def _aligned(self, shape: tuple[int, ...]) -> Array:
        if self.device is CPU:
            return aligned_empty(shape, self.dtype)
        return self.device.empty(shape, self.dtype)
