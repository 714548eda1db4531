"""Initializers without chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn._arguments import check_number
from fusednn.initializers.base import Array, Initializer, Shape


class Zeros(Initializer):
    """All 0."""

    def fill(self, shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator | None) -> Array:
        """See `Initializer.fill`."""
        return np.zeros(shape, dtype)


class Ones(Initializer):
    """All 1."""

    def fill(self, shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator | None) -> Array:
        """See `Initializer.fill`."""
        return np.ones(shape, dtype)


class Constant(Initializer):
    """All `value`."""

    config_names = ("value",)

    def __init__(self, value: float = 0.0) -> None:
        self.value = check_number("value", value)

    def fill(self, shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator | None) -> Array:
        """See `Initializer.fill`."""
        return np.full(shape, self.value, dtype)


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere."""

    config_names = ("gain",)

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number("gain", gain)

    def fill(self, shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator | None) -> Array:
        """See `Initializer.fill`."""
        if len(shape) != 2:
            raise ValueError(f"`shape` of `Identity` must have 2 axes. Received: shape={shape}")
        return self.gain * np.eye(*shape, dtype=dtype)
