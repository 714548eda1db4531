"""The inputs of a case: the same numbers in every process, from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks.case import Case
from fusednn.benchmarks.shapes import LAYOUTS, LISTS, MODELS, Layout, Shape

Array = NDArray[Any]

SEED = 20240607
#: Numbers are drawn once and repeated: drawing 25 million of them takes longer than timing a case.
#: A prime, so that no channel sees the same numbers as another.
_PERIOD = 1_048_573
#: Elements at each end of an array of an optimizer, of which answers are compared.
ENDS = 500
#: Of a cache line, where peers' own allocators start their arrays too.
_ALIGNMENT = 64


class UnavailableError(Exception):
    """A contender cannot do a case; the text says why."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of this name, bfloat16 from ml_dtypes included."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ModuleNotFoundError as error:
        raise UnavailableError("bfloat16 needs ml_dtypes") from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def aligned_empty(shape: Shape, dtype: np.dtype[Any], offset: int = 0) -> Array:
    """Return an uninitialised array that starts `offset` bytes past a cache line's start."""
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + offset + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT + offset
    return memory[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: Array) -> Array:
    """Return a copy that starts at a cache line's start."""
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def normals(
    stream: int, shape: Shape, dtype: np.dtype[Any], mean: float = 0.0, std: float = 1.0
) -> Array:
    """Return normally distributed numbers; `stream` tells one array of a case from another."""
    count = prod(shape)
    values = np.random.default_rng([SEED, stream]).standard_normal(
        min(count, _PERIOD), dtype=np.float32
    )
    block = (values * np.float32(std) + np.float32(mean)).astype(dtype)
    array = aligned_empty(shape, dtype)
    flat = array.reshape(-1)
    for start in range(0, count, _PERIOD):
        flat[start : start + _PERIOD] = block[: count - start]
    return array


@dataclass(frozen=True)
class Activations:
    """Inputs of BatchNorm and leaky ReLU; per-channel arrays are float32, or float64 for that."""

    layout: Layout
    x: Array
    grad: Array
    gamma: Array
    beta: Array
    running_mean: Array
    running_var: Array

    @property
    def sample_channels(self) -> list[int]:
        """The channels in which answers are compared."""
        return sorted({0, self.layout.channels // 2, self.layout.channels - 1})


@dataclass(frozen=True)
class Lists:
    """Inputs of an optimizer. No gradient is close to 0, where formulas part over epsilon."""

    params: list[Array]
    grads: list[Array]


class Gradients:
    """What NumPy's optimizers are given at a step: the inputs, or new copies of them each time."""

    def __init__(self, data: Lists, *, new: bool) -> None:
        self._originals = self.arrays = data.grads
        #: A contender's `before`.
        self.before = self.renew if new else None

    def renew(self) -> None:
        """Have new arrays; those of the last step are freed when these exist, elsewhere."""
        self.arrays = [grad.copy() for grad in self._originals]


@dataclass(frozen=True)
class Training:
    """Inputs of a training step: a batch, and the weights that all models start with."""

    x: Array
    labels: Array
    kernels: list[Array]


@lru_cache(maxsize=1)
def activations(case: Case) -> Activations:
    """Return the inputs of a case of BatchNorm or leaky ReLU."""
    layout = LAYOUTS[case.subject]
    dtype = numpy_dtype(case.dtype)
    statistics = np.dtype(np.float64 if case.dtype == "float64" else np.float32)
    channels = (layout.channels,)
    return Activations(
        layout,
        normals(0, layout.shape, dtype, mean=0.5, std=2.0),
        normals(1, layout.shape, dtype),
        normals(2, channels, statistics, mean=1.0, std=0.1),
        normals(3, channels, statistics),
        normals(4, channels, statistics),
        np.abs(normals(5, channels, statistics)) + statistics.type(0.5),
    )


@lru_cache(maxsize=1)
def lists(case: Case) -> Lists:
    """Return the inputs of an optimizer's case."""
    dtype = numpy_dtype(case.dtype)
    params, grads = [], []
    for i, shape in enumerate(LISTS[case.subject]):
        params.append(normals(2 * i, shape, dtype))
        grad = normals(2 * i + 1, shape, dtype)
        grad += np.copysign(dtype.type(0.125), grad)
        grads.append(grad)
    return Lists(params, grads)


@lru_cache(maxsize=1)
def training(case: Case) -> Training:
    """Return the inputs of a training step's case. Kernels are He-normal."""
    model = MODELS[case.subject]
    dtype = numpy_dtype(case.dtype)
    labels = np.random.default_rng([SEED, 1]).integers(0, model.widths[-1], model.batch)
    kernels = [
        normals(2 + i, shape, dtype, std=(2.0 / shape[0]) ** 0.5)
        for i, shape in enumerate(model.products)
    ]
    return Training(normals(0, (model.batch, model.widths[0]), dtype), labels, kernels)


@lru_cache(maxsize=1)
def _shared_ones(count: int) -> list[Array]:
    return []


def ones(count: int, needed: int, stagger: int) -> list[Array]:
    """Return float32 vectors of ones, each `stagger` bytes further past a cache line's start.

    Calls for one `count` share them.
    """
    shared = _shared_ones(count)
    for i in range(len(shared), needed):
        shared.append(aligned_empty((count,), np.dtype(np.float32), offset=i * stagger))
        shared[i].fill(1.0)
    return shared[:needed]


@contextmanager
def turned(grads: list[Array]) -> Iterator[list[Array]]:
    """Reverse and double the ends of each array in place meanwhile: gradients of a second step.

    Equal gradients in both steps would hide what is wrong, for Adam would step by signs alone; so
    would gradients of equal norms what is wrong with clipping.
    """
    for grad in grads:
        _swap_ends(grad.reshape(-1), 2)
    try:
        yield grads
    finally:
        for grad in grads:
            _swap_ends(grad.reshape(-1), 0.5)


def _swap_ends(flat: Array, factor: float) -> None:
    count, scale = min(ENDS, flat.size), flat.dtype.type(factor)
    first, last = flat[:count] * scale, flat[-count:] * scale
    flat[:count] = last[::-1]
    flat[-count:] = first[::-1]


def forget() -> None:
    """Free the arrays of the latest case."""
    for function in (activations, lists, training, _shared_ones):
        function.cache_clear()
