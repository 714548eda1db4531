"""First values of weights, with Keras' names, defaults and distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusednn import utils
from fusednn._arguments import check_number
from fusednn._serialization import Configurable, Registry, serialize

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "compute_fans",
    "get",
    "serialize",
]

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
FloatType: TypeAlias = type[np.float32] | type[np.float64]

#: Standard deviation of a unit normal distribution that is cut off at -2 and 2.
TRUNCATED_STDDEV = 0.87962566103423978


class Initializer(Configurable):
    """Base class: makes the array that a variable starts from.

    A new initializer is a subclass with a method `fill`.
    """

    def __call__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike = "float32",
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Return a new C-contiguous array.

        Parameters
        ----------
        shape
            Its shape. The fans of (in, out), and of kernels (..., in, out), are Keras'.
        dtype
            Its dtype: floating-point for the random ones.
        rng
            Where random numbers come from if the initializer has no seed. None: the generator
            that `fusednn.utils.set_random_seed` resets.
        """
        return self.fill(tuple(shape), np.dtype(dtype), rng)

    def fill(self, shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator | None) -> Array:
        """Return the array; `rng` as in `__call__`."""
        raise NotImplementedError(f"{type(self).__name__} must define `fill`.")


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


class RandomInitializer(Initializer):
    """Base class of the random ones; a new one is a subclass with a method `draw`.

    Parameters
    ----------
    seed : int, optional
        With a seed every call gives the same numbers, as in Keras. Without one, calls draw one
        after another from the generator described at `Initializer.__call__` (a Keras initializer
        without seed repeats its own numbers).
    """

    config_names: ClassVar[tuple[str, ...]] = ("seed",)

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (
            isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0
        ):
            raise ValueError(f"`seed` must be an integer >= 0 or None. Received: seed={seed!r}")
        self.seed = None if seed is None else int(seed)

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """Return random numbers from `rng`, float32 or float64."""
        raise NotImplementedError(f"{type(self).__name__} must define `draw`.")

    def fill(self, shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator | None) -> Array:
        """See `Initializer.fill`."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        elif rng is None:
            rng = utils.random_generator()
        # Shorter formats are rounded from float32.
        draw_dtype: FloatType = np.float64 if dtype == np.float64 else np.float32
        return self.draw(shape, draw_dtype, rng).astype(dtype, copy=False)


class RandomNormal(RandomInitializer):
    """Normal distribution of the given mean and standard deviation (>= 0)."""

    config_names = ("mean", "stddev")

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = check_number("mean", mean)
        self.stddev = check_number("stddev", stddev, minimum=0)

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """See `RandomInitializer.draw`."""
        return _scaled(rng.standard_normal(shape, dtype), self.stddev, self.mean)


class TruncatedNormal(RandomNormal):
    """Normal distribution; what lies more than 2 `stddev` from `mean` is drawn again.

    `stddev` is that of the distribution before the cut; that of the values is 0.8796 times as
    large, as in Keras.
    """

    def draw(self, shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
        """See `RandomInitializer.draw`."""
        return _scaled(_truncated_normal(shape, dtype, rng), self.stddev, self.mean)


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
        return _scaled(rng.random(shape, dtype), self.maxval - self.minval, self.minval)


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
    unsupported_config_names: ClassVar[tuple[str, ...]] = ("input_axes", "output_axes")

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
            return _scaled(_truncated_normal(shape, dtype, rng), stddev / TRUNCATED_STDDEV, 0.0)
        if self.distribution == "untruncated_normal":
            return _scaled(rng.standard_normal(shape, dtype), stddev, 0.0)
        limit = math.sqrt(3.0) * stddev
        return _scaled(rng.random(shape, dtype), 2.0 * limit, -limit)


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


def _scaled(values: Array, factor: float, offset: float) -> Array:
    values *= factor
    if offset:
        values += offset
    return values


def _truncated_normal(shape: Shape, dtype: FloatType, rng: np.random.Generator) -> Array:
    values = rng.standard_normal(math.prod(shape), dtype)
    outside = np.flatnonzero(np.abs(values) > 2)
    while outside.size:
        values[outside] = rng.standard_normal(outside.size, dtype)
        outside = outside[np.abs(values[outside]) > 2]
    return values.reshape(shape)


_registry: Registry[Initializer] = Registry(
    "initializer",
    Initializer,
    [
        Zeros,
        Ones,
        Constant,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        LecunNormal,
        LecunUniform,
    ],
    {"zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform},
)


def get(identifier: Any) -> Initializer:
    """Return an initializer.

    Parameters
    ----------
    identifier
        An initializer (returned as it is), a class, a name (``"he_normal"``, ``"HeNormal"``, ...),
        or a dictionary ``{"class_name": ..., "config": ...}``.

    Raises
    ------
    ValueError
        It is none of these.
    """
    return _registry.get(identifier)
