"""Checks of arguments while a program is traced, with messages as the kernels' own.

What a handler finds is an error of the running program; what is wrong with shapes, dtypes and
numbers is said here, at the line that says it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import jax.numpy as jnp

DTYPES = ("float32", "float64", "float16", "bfloat16")


def require_array(name: str, x: Any) -> Any:
    """Return `x` as an array of a dtype that the kernels have."""
    x = jnp.asarray(x)
    if x.dtype.name not in DTYPES:
        raise TypeError(
            f"`{name}` must be float32, float64, float16 or bfloat16. Received: dtype={x.dtype}"
        )
    return x


def require_vector(name: str, vector: Any, channels: int, dtype: Any) -> Any:
    """Return `vector`, which holds one number per channel, as `dtype`; it may lose no digits."""
    if vector is None:
        raise TypeError(f"`{name}` must be an array. Received: None")
    vector = require_array(name, vector)
    if vector.shape != (channels,):
        raise ValueError(
            f"`{name}` must have one element per channel, shape ({channels},). "
            f"Received: shape={vector.shape}"
        )
    if vector.dtype == jnp.float64 and dtype != jnp.float64:
        raise TypeError(
            f"`{name}` must be float32 where `x` is not float64. Received: dtype=float64"
        )
    return vector.astype(dtype)


def require_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a number that the program is compiled for, from `low` to `high`."""
    try:
        number = float(value)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a number, which is known when the program is compiled. "
            f"Received: type={type(value).__name__}"
        ) from error
    if not (math.isfinite(number) and low <= number <= high):
        allowed = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"at least {low:g}"
        allowed = allowed if math.isfinite(low) else "finite"
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value}")
    return number


def require_axis(name: str, axis: Any, ndim: int) -> int:
    """Return `axis` counted from the front."""
    try:
        index = operator.index(axis)
    except TypeError as error:
        raise TypeError(f"`{name}` must be an integer. Received: {name}={axis!r}") from error
    if not -ndim <= index < ndim:
        raise ValueError(
            f"`{name}` must be in [{-ndim}, {ndim - 1}] for {ndim} axes. Received: {name}={axis}"
        )
    return index % ndim
