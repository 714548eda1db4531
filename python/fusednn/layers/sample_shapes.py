"""Shapes of samples, as constructors are given them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sample_shape(shape: Sequence[int | None] | int, name: str = "input_shape") -> tuple[int, ...]:
    """Check the shape of one sample and return it as a tuple."""
    given = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    dims = [
        int(dim)
        for dim in given
        if isinstance(dim, (int, np.integer)) and not isinstance(dim, bool) and dim > 0
    ]
    if len(dims) < len(given):
        raise ValueError(
            f"`{name}` must hold positive integers, without the batch axis. "
            f"Received: {name}={shape}"
        )
    return tuple(dims)


def split_batch_shape(
    shape: Sequence[int | None] | int, name: str
) -> tuple[int | None, Sequence[int | None]]:
    """Return the batch axis, which may be None, and the others."""
    if not isinstance(shape, Sequence) or not shape:
        raise ValueError(
            f"`{name}` must be a tuple that begins with the batch axis. Received: {name}={shape}"
        )
    first, *dims = shape
    return first, dims
