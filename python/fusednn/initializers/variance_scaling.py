"""Random weights whose variance keeps that of the signals, forward or backward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fusednn._arguments import check_number
from fusednn.initializers.base import Array, FloatType, RandomInitializer, Shape
from fusednn.initializers.random import scaled, truncated_normal

#: Standard deviation of a unit normal distribution that is cut off at -2 and 2.
TRUNCATED_STDDEV = 0.87962566103423978


class VarianceScaling(RandomInitializer):
    """Mean 0 and variance ``scale / n``, with n from the shape of the weights.

    Parameters
    ----------
    scale
        > 0. He's initialisation for a leaky ReLU of slope a is ``2 / (1 + a**2)`` with
        ``mode="fan_in"``.
    mode : {"fan_in", "fan_out", "fan_avg"}
        n is the number of inputs, of outputs, or their mean; see `compute_fans`.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        The normal distribution is cut at two standard deviations and widened so that the variance
        is right after the cut; the uniform one lies in ``[-l, l)``, ``l = sqrt(3 * scale / n)``.
        ``"normal"`` is the first one, as in Keras.
    seed
        See `RandomInitializer`.
    """

    config_names = ("scale", "mode", "distribution")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        distribution = distribution.lower()
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                f"`mode` must be 'fan_in', 'fan_out' or 'fan_avg'. Received: mode={mode!r}"
            )
        if distribution not in ("normal", "truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                "`distribution` must be 'truncated_normal', 'untruncated_normal' or 'uniform'. "
                f"Received: distribution={distribution!r}"
            )
        self.scale = check_number("scale", scale, above=0)
        self.mode = mode
        self.distribution = "truncated_normal" if distribution == "normal" else distribution

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """See `RandomInitializer.draw`."""
        fan_in, fan_out = compute_fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, n))
        if self.distribution == "truncated_normal":
            return scaled(truncated_normal(shape, dtype, rng), stddev / TRUNCATED_STDDEV, 0.0)
        if self.distribution == "untruncated_normal":
            return scaled(rng.standard_normal(shape, dtype), stddev, 0.0)
        limit = math.sqrt(3.0) * stddev
        return scaled(rng.random(shape, dtype), 2.0 * limit, -limit)


class _FixedScaling(VarianceScaling):
    """A `VarianceScaling` that has a name; only its seed is left to choose."""

    fixed: ClassVar[tuple[float, str, str]]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self.fixed, seed=seed)

    def get_config(self) -> dict[str, Any]:
        """Return the seed: the rest is in the name."""
        return {"seed": self.seed}


class GlorotNormal(_FixedScaling):
    """Truncated normal distribution of variance 2 / (fan_in + fan_out) (Glorot, Bengio 2010)."""

    fixed = (1.0, "fan_avg", "truncated_normal")


class GlorotUniform(_FixedScaling):
    """Uniform distribution of variance 2 / (fan_in + fan_out); Keras' default for `Dense`."""

    fixed = (1.0, "fan_avg", "uniform")


class HeNormal(_FixedScaling):
    """Truncated normal distribution of variance 2 / fan_in, for ReLUs (He et al. 2015)."""

    fixed = (2.0, "fan_in", "truncated_normal")


class HeUniform(_FixedScaling):
    """Uniform distribution of variance 2 / fan_in."""

    fixed = (2.0, "fan_in", "uniform")


class LecunNormal(_FixedScaling):
    """Truncated normal distribution of variance 1 / fan_in, for SELU (LeCun et al. 1998)."""

    fixed = (1.0, "fan_in", "truncated_normal")


class LecunUniform(_FixedScaling):
    """Uniform distribution of variance 1 / fan_in."""

    fixed = (1.0, "fan_in", "uniform")


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of weights, by Keras' rule.

    (in, out) for matrices; for kernels (..., in, out) both times the product of the axes before;
    for vectors both are the length; (1, 1) for scalars.
    """
    if len(shape) < 2:
        length = int(shape[0]) if shape else 1
        return length, length
    receptive_field = math.prod(shape[:-2])
    return int(shape[-2] * receptive_field), int(shape[-1] * receptive_field)
