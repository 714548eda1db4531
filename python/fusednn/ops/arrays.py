"""What the functions of ops allocate for their callers.

What is given is passed on as it is: `_core` checks it. Only where something has to be allocated are
arguments looked at before. Packages whose arrays cannot be written (JAX) get NumPy's, filled, as
arrays of theirs; but for bfloat16 they take the memory over.
"""

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: One array for the main result, or a tuple for all of them.
Out = Array | tuple[Array, ...] | None
#: The main result and two per-channel arrays.
Results = tuple[Array, Array, Array]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


#: Packages that results are allocated with, for arrays of theirs.
ALLOCATING = ("cupy", "torch")


def package_of(name: str, value: object) -> Any:
    """Return the package that `value`, the argument `name`, is an array of; refuse other things.

    The package is in `sys.modules`: it made the array.
    """
    if isinstance(value, np.ndarray):
        return np
    package = type(value).__module__.partition(".")[0]
    if package in ALLOCATING and hasattr(value, "__dlpack__"):
        return sys.modules[package]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):  # a subclass defined elsewhere
        return torch
    if _namespace_of(value) is not None:
        return np  # until `given_back`
    if hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__"):
        raise TypeError(
            f"`{name}` must be an array of NumPy, CuPy or PyTorch, or one in the CPU's memory that "
            "has NumPy's dtypes and `__array_namespace__`, as JAX' have, where results are "
            f"allocated: give all of them as `out`. Received: type={type(value).__name__}"
        )
    raise TypeError(
        f"`{name}` must be an array of NumPy, PyTorch, CuPy, JAX or another package that has "
        f"DLPack or the CUDA array interface. Received: type={type(value).__name__}"
    )


def _namespace_of(value: Any) -> Any:
    """Return the functions of the package that takes NumPy's arrays over as its own, or None.

    Its arrays cannot be written, or only its own functions make them: the kernels write to NumPy's.
    """
    if not (
        hasattr(value, "__dlpack__")
        and hasattr(value, "__array_namespace__")
        and isinstance(getattr(value, "dtype", None), np.dtype)
    ):
        return None
    try:
        on_cpu = value.__dlpack_device__()[0] == 1
    except Exception:  # `_core` says what is wrong with the array
        on_cpu = True
    return value.__array_namespace__() if on_cpu else None


#: What JAX wants of memory that it takes over without a copy.
_ALIGNMENT = 64


def _aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    memory = np.empty(math.prod(shape) * dtype.itemsize + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    array: Array = memory[start : memory.size - _ALIGNMENT + start].view(dtype).reshape(shape)
    return array


def _taken_over(namespace: Any, result: Array) -> Array:
    # NumPy shares the types that are its own alone; bfloat16 is copied.
    make = namespace.from_dlpack if result.dtype.kind == "f" else namespace.asarray
    taken: Array = make(result)
    return taken


def given_back(like: Array, out: Out, *results: Array) -> tuple[Array, ...]:
    """Return `results` as arrays of the package of `like`, but for those that are in `out`."""
    if isinstance(like, np.ndarray):
        return results
    given = out if isinstance(out, tuple) else (out,)
    return tuple(
        result
        if not isinstance(result, np.ndarray) or any(result is one for one in given)
        else _taken_over(_namespace_of(like), result)
        for result in results
    )


def full_output(name: str, like: Array) -> Array:
    """Allocate an array with the shape, dtype and order of axes of `like`, the argument `name`."""
    package = package_of(name, like)
    if package is np and not isinstance(like, np.ndarray):
        return _aligned(like.shape, like.dtype)
    output: Array = package.empty_like(like)
    return output


def channel_outputs(name: str, x: Array, channel_axis: int) -> tuple[Array, Array]:
    """Allocate two per-channel arrays for `x`, the argument `name`."""
    package = package_of(name, x)
    if isinstance(channel_axis, bool) or not hasattr(channel_axis, "__index__"):
        raise TypeError(
            f"`channel_axis` must be an integer. Received: channel_axis={channel_axis!r}"
        )
    shape = x.shape
    rank = len(shape)
    if not -rank <= channel_axis < rank:
        axes = f"{-rank} to {rank - 1}" if rank else "none"
        raise ValueError(
            f"`{name}` must have the axis `channel_axis` (its axes: {axes}). "
            f"Received: channel_axis={channel_axis}, shape={shape}"
        )
    channels = shape[channel_axis]
    if package is np:
        dtype = FLOAT64 if x.dtype.char == "d" else FLOAT32
        if not isinstance(x, np.ndarray):
            return _aligned((channels,), dtype), _aligned((channels,), dtype)
        return np.empty(channels, dtype), np.empty(channels, dtype)
    double = x.dtype == package.float64
    options = {"dtype": package.float64 if double else package.float32}
    if package.__name__ == "torch":
        options["device"] = x.device
    return package.empty(channels, **options), package.empty(channels, **options)


def results_in(
    out: Out, names: tuple[str, str, str], x_name: str, x: Array, channel_axis: int
) -> Results:
    """Return the three results' arrays: those that `out` holds, and new ones for `x` elsewhere."""
    if not isinstance(out, tuple):
        first, second = channel_outputs(x_name, x, channel_axis)
        return (full_output(x_name, x) if out is None else out), first, second
    if len(out) != 3:
        raise ValueError(
            f"`out` must be an array or a tuple of 3 ({', '.join(names)}). "
            f"Received: a tuple of {len(out)}"
        )
    main, first, second = out
    if main is None or first is None or second is None:
        new_first, new_second = channel_outputs(x_name, x, channel_axis)
        main = full_output(x_name, x) if main is None else main
        first = new_first if first is None else first
        second = new_second if second is None else second
    return main, first, second
