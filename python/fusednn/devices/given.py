"""Arrays that callers give, of NumPy or CuPy: read where they are, on the caller's stream."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fusednn.devices.base import Array


def is_cupys(values: Any) -> bool:
    """Whether it is an array of CuPy."""
    kind = getattr(sys.modules.get("cupy"), "ndarray", None)
    return kind is not None and isinstance(values, kind)


def as_array(values: Any) -> Array:
    """Return NumPy's array of what is given; of CuPy's arrays, and of lists of them, CuPy's.

    Raises
    ------
    ValueError
        If parts of a list have different shapes, or are on different devices.
    """
    if is_cupys(values):
        array: Array = values
        return array
    if _holds_cupys(values):
        return stacked([as_array(part) for part in values])
    return np.asarray(values)


def _holds_cupys(values: Any) -> bool:
    """Whether a list has arrays of CuPy among its parts, or in lists that are its first part."""
    if not isinstance(values, (list, tuple)) or not values:
        return False
    return any(map(is_cupys, values)) or _holds_cupys(values[0])


def stacked(parts: Any) -> Array:
    """Return arrays of one shape as one, with a first axis more."""
    if not any(map(is_cupys, parts)):
        return np.stack(parts)
    gpus: list[Any] = [part.device.id if is_cupys(part) else None for part in parts]
    if None in gpus:
        kind = type(parts[gpus.index(None)]).__name__
        raise ValueError(f"A list of CuPy's arrays must have no others. Received: type={kind}")
    if len(set(gpus)) > 1:
        names = ", ".join(f"cuda:{gpu}" for gpu in sorted(set(gpus)))
        raise ValueError(f"A list's arrays must be on one device. Received: {names}")
    with _gpu_of(parts[0]):
        array: Array = sys.modules["cupy"].stack(parts)
    return array


def rows_of(array: Array, rows: Array) -> Array:
    """Return a copy of some rows; their numbers are NumPy's."""
    if not is_cupys(array):
        return array.take(rows, axis=0)
    cupy: Any = sys.modules["cupy"]
    with _gpu_of(array):
        copy: Array = cupy.empty((len(rows), *array.shape[1:]), array.dtype)
        cupy.take(array, cupy.asarray(rows), axis=0, out=copy)
    return copy


def finish(element: Any) -> Any:
    """Return what is given, its arrays of CuPy written: whoever takes it has another stream.

    CuPy's current stream is each thread's own.
    """
    for part in element if isinstance(element, (list, tuple)) else (element,):
        if is_cupys(part):
            with _gpu_of(part):
                sys.modules["cupy"].cuda.get_current_stream().synchronize()
    return element


def _gpu_of(array: Any) -> AbstractContextManager[Any]:
    gpu: AbstractContextManager[Any] = sys.modules["cupy"].cuda.Device(array.device.id)
    return gpu
