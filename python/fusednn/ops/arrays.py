"""What the functions of ops allocate for their callers."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: One array for the main result, or a tuple for all of them.
Out = Array | tuple[Array, ...] | None


def check_array(name: str, value: object) -> None:
    """Refuse what is not a NumPy array before its shape is read."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"`{name}` must be a NumPy array. Received: type={type(value).__name__}")


def channel_count(name: str, x: Array, channel_axis: int) -> int:
    """Length of the channel axis of `x`."""
    check_array(name, x)
    if isinstance(channel_axis, bool) or not hasattr(channel_axis, "__index__"):
        raise TypeError(
            f"`channel_axis` must be an integer. Received: channel_axis={channel_axis!r}"
        )
    if not -x.ndim <= channel_axis < x.ndim:
        axes = f"{-x.ndim} to {x.ndim - 1}" if x.ndim else "none"
        raise ValueError(
            f"`{name}` must have the axis `channel_axis` (its axes: {axes}). "
            f"Received: channel_axis={channel_axis}, shape={x.shape}"
        )
    length: int = x.shape[channel_axis]
    return length


def channel_dtype(x: Array) -> type[np.floating[Any]]:
    """Dtype of per-channel arrays that belong to `x`."""
    return np.float64 if x.dtype == np.float64 else np.float32


def split_out(out: Out, results: tuple[str, ...]) -> tuple[Array | None, ...]:
    """One array or None for each of `results`, from what the caller gave as `out`."""
    if not isinstance(out, tuple):
        return (out,) + (None,) * (len(results) - 1)
    if len(out) != len(results):
        raise ValueError(
            f"`out` must be an array or a tuple of {len(results)} ({', '.join(results)}). "
            f"Received: a tuple of {len(out)}"
        )
    return out


def full_output(like: Array, out: Array | None) -> Array:
    """Return `out`, or a new array with the shape and order of axes of `like`."""
    return np.empty_like(like) if out is None else out


def channel_outputs(x: Array, channels: int, outs: tuple[Array | None, ...]) -> tuple[Array, ...]:
    """Return each of `outs`, or a new per-channel array for `x` in its place."""
    dtype = channel_dtype(x)
    return tuple(np.empty(channels, dtype) if out is None else out for out in outs)
