"""What the functions of ops allocate for their callers.

What is given is passed on as it is: `_core` checks it. Only where something has to be allocated are
arguments looked at before.
"""

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
    if hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__"):
        raise TypeError(
            f"`{name}` must be an array of NumPy, CuPy or PyTorch where results are allocated: "
            f"give all of them as `out`. Received: type={type(value).__name__}"
        )
    raise TypeError(
        f"`{name}` must be a NumPy array, or one of CuPy or PyTorch. "
        f"Received: type={type(value).__name__}"
    )


def full_output(name: str, like: Array) -> Array:
    """Allocate an array with the shape, dtype and order of axes of `like`, the argument `name`."""
    output: Array = package_of(name, like).empty_like(like)
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
