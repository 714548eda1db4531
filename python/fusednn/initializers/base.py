"""What all initializers share: shapes, dtypes, and where random numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusednn._serialization import Configurable, OfFunction, function_name
from fusednn.randomness import random_generator

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
FloatType: TypeAlias = type[np.float32] | type[np.float64]


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
            rng = random_generator()
        # Shorter formats are rounded from float32.
        draw_dtype: FloatType = np.float64 if dtype == np.float64 else np.float32
        return self.draw(shape, draw_dtype, rng).astype(dtype, copy=False)


class FunctionInitializer(Initializer, OfFunction):
    """An initializer that is a plain function of shape and dtype, as in Keras."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def fill(self, shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator | None) -> Array:
        """See `Initializer.fill`."""
        values = np.asarray(self.fn(shape, dtype=dtype.name))
        if values.shape != shape:
            raise ValueError(
                f"The initializer {function_name(self.fn)} must return an array of the shape that "
                f"it is given, {shape}. Received: shape {values.shape}"
            )
        return np.asarray(values, dtype, order="C")  # ascontiguousarray makes () of shape (1,)
