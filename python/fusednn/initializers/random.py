"""Random numbers of a given distribution, whatever the shape."""

from __future__ import annotations

import math

import numpy as np

from fusednn._arguments import check_number
from fusednn.initializers.base import Array, FloatType, RandomInitializer, Shape


class RandomNormal(RandomInitializer):
    """Normal distribution of the given mean and standard deviation (>= 0)."""

    config_names = ("mean", "stddev")

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = check_number("mean", mean)
        self.stddev = check_number("stddev", stddev, minimum=0)

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """See `RandomInitializer.draw`."""
        return scaled(rng.standard_normal(shape, dtype), self.stddev, self.mean)


class TruncatedNormal(RandomNormal):
    """Normal distribution; what lies more than 2 `stddev` from `mean` is drawn again.

    `stddev` is that of the distribution before the cut; that of the values is 0.8796 times as
    large, as in Keras.
    """

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """See `RandomInitializer.draw`."""
        return scaled(truncated_normal(shape, dtype, rng), self.stddev, self.mean)


class RandomUniform(RandomInitializer):
    """Uniform distribution in [minval, maxval)."""

    config_names = ("minval", "maxval")

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.minval = check_number("minval", minval)
        self.maxval = check_number("maxval", maxval, minimum=self.minval)

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """See `RandomInitializer.draw`."""
        return scaled(rng.random(shape, dtype), self.maxval - self.minval, self.minval)


class Orthogonal(RandomInitializer):
    """`gain` times a random orthogonal matrix (Saxe et al. 2014).

    All axes but the last count as one. Where there are more rows than columns, the columns are
    orthonormal; else the rows are.
    """

    config_names = ("gain",)

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = check_number("gain", gain)

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """See `RandomInitializer.draw`."""
        if len(shape) < 2:
            raise ValueError(
                f"`shape` of `Orthogonal` must have at least 2 axes. Received: shape={shape}"
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = rng.standard_normal((max(rows, columns), min(rows, columns)), dtype)
        q, r = np.linalg.qr(normal)
        # Without the signs q would not be uniform: the factorization fixes those of r's diagonal.
        q *= np.sign(np.diagonal(r))
        matrix = q if rows >= columns else q.T
        return scaled(np.ascontiguousarray(matrix).reshape(shape), self.gain, 0.0)


def scaled(values: Array, factor: float, offset: float) -> Array:
    """Return ``values * factor + offset``, in place."""
    values *= factor
    if offset:
        values += offset
    return values


def truncated_normal(shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
    """Return standard normal numbers in [-2, 2]; what lies outside is drawn again."""
    values = rng.standard_normal(math.prod(shape), dtype)
    outside = np.flatnonzero(np.abs(values) > 2)
    while outside.size:
        values[outside] = rng.standard_normal(outside.size, dtype)
        outside = outside[np.abs(values[outside]) > 2]
    return values.reshape(shape)
