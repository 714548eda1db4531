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


def require_same(name: str, array: Any, other_name: str, other: Any) -> None:
    """Refuse an `array` whose shape or dtype is not that of `other`."""
    if array.shape != other.shape:
        raise ValueError(
            f"`{name}` must have the shape of `{other_name}`, {other.shape}. "
            f"Received: shape={array.shape}"
        )
    if array.dtype != other.dtype:
        raise TypeError(
            f"`{name}` must have the dtype of `{other_name}`, {other.dtype}. "
            f"Received: dtype={array.dtype}"
        )


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
    index = operator.index(axis)
    if not -ndim <= index < ndim:
        raise ValueError(
            f"`{name}` must be in [{-ndim}, {ndim - 1}] for {ndim} axes. Received: {name}={axis}"
        )
    return index % ndim
