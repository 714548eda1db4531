"""What the functions of ops allocate for their callers.

What is given is passed on as it is: `_core` checks it. Only where something has to be allocated are
arguments looked at before.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: One array for the main result, or a tuple for all of them.
Out = Array | tuple[Array, ...] | None
#: The main result and two per-channel arrays.
Results = tuple[Array, Array, Array]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def check_array(name: str, value: object) -> None:
    """Refuse what is not a NumPy array before its shape is read."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"`{name}` must be a NumPy array. Received: type={type(value).__name__}")


def full_output(name: str, like: Array) -> Array:
    """Allocate an array with the shape, dtype and order of axes of `like`, the argument `name`."""
    check_array(name, like)
    return np.empty_like(like)


def channel_outputs(name: str, x: Array, channel_axis: int) -> tuple[Array, Array]:
    """Allocate two per-channel arrays for `x`, the argument `name`."""
    check_array(name, x)
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
    dtype = FLOAT64 if x.dtype.char == "d" else FLOAT32
    channels = shape[channel_axis]
    return np.empty(channels, dtype), np.empty(channels, dtype)


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
