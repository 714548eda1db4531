"""The caller's data as arrays of the model's type, and the batches made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fusednn import devices
from fusednn.randomness import random_generator

Array = np.ndarray[Any, np.dtype[Any]]


def as_inputs(
    x: ArrayLike, dtype: np.dtype[Any], name: str = "x", sample: tuple[int, ...] | None = None
) -> Array:
    """Return `x` (an array, or nested lists of numbers) as a C-contiguous array of `dtype`.

    An array of CuPy stays one where it is on the current device; all else becomes NumPy's.

    A list of one array is this array, as in Keras, unless the array is a sample, whose shape is
    `sample` where that is known.

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If it has no axis of samples.
    """
    only = _alone(x)
    listed = only is not None and len(only.shape) > 1 and tuple(only.shape) != sample
    array = _here(_numeric(only if listed else x, name))
    device = devices.current() if devices.is_cupys(array) else devices.CPU
    if array.ndim == 0:
        raise ValueError(f"`{name}` must have a first axis of samples. Received: {name}={x!r}")
    return device.fitting(array, dtype)


def as_targets(y: ArrayLike, dtype: np.dtype[Any], samples: int, name: str = "y") -> Array:
    """Return `y` as a C-contiguous array: integers as they are (labels), all else as `dtype`.

    It is NumPy's, which computes the loss on every device.

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If it does not hold `samples` samples.
    """
    only = _alone(y)
    listed = only is not None and tuple(only.shape[:1]) == (samples,) and samples != 1
    array = on_host(_numeric(only if listed else y, name))
    if array.ndim == 0 or len(array) != samples:
        x_name = "x" if name == "y" else "x of the same data"
        received = "a single number" if array.ndim == 0 else f"{len(array)} samples"
        raise ValueError(
            f"`{name}` must hold as many samples as `{x_name}`, {samples}. Received: {received}"
        )
    return np.ascontiguousarray(array, dtype=array.dtype if array.dtype.kind in "iu" else dtype)


def _alone(values: ArrayLike) -> Any:
    """Return the array of a list of one, as of a Keras model with one input; None if it is none."""
    if isinstance(values, (list, tuple)) and len(values) == 1 and hasattr(values[0], "shape"):
        return values[0]
    return None


def _is_here(array: Any) -> bool:
    """Whether it is NumPy's, or on the current device."""
    return not devices.is_cupys(array) or devices.current().name == f"cuda:{array.device.id}"


def _here(array: Any) -> Any:
    """Return what is given; an array of CuPy that is not on the current device as NumPy's."""
    return array if _is_here(array) else array.get()


def _read_here(array: Any) -> Any:
    """Return the same of an array that a device of ours has written, on a stream of its own."""
    return array if _is_here(array) else devices.device_of(array).read(array)


def on_host(values: Any) -> Any:
    """Return what is given; an array of CuPy as a copy of NumPy's."""
    return values.get() if devices.is_cupys(values) else values


def _numeric(values: Any, name: str) -> Array:
    try:
        array = devices.as_array(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"`{name}` must be a rectangular array of numbers. {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"`{name}` must be an array of real numbers. "
            f"Received: {type(values).__name__} of dtype {array.dtype}"
        )
    return array


def split_at_end(length: int, fraction: float) -> int:
    """Return where the last `fraction` of so many samples begins, as Keras cuts it off."""
    if isinstance(fraction, bool) or not 0 < fraction < 1:
        raise ValueError(
            f"`validation_split` must be in (0, 1). Received: validation_split={fraction}"
        )
    cut = math.floor(length * (1 - fraction))
    if cut in (0, length):
        raise ValueError(
            "`validation_split` must leave samples on both sides. "
            f"Received: validation_split={fraction} for {length} samples"
        )
    return cut


class Batches:
    """Iterates over (x, y) in batches: views in order, or copies in a new order each time.

    With weights a batch is (x, y, weights).

    Parameters
    ----------
    x, y : ndarray
        Samples along the first axis; at least one. On any device, their batches on the current
        one or the CPU.
    batch_size : int
        The last batch may be smaller.
    shuffle : bool or "batch"
        A permutation is drawn from `fusednn.utils.random_generator` per iteration. The copies go
        to the same two buffers for each batch, so a batch is valid until the next one is taken.
        "batch": batches are views of rows in their order, and come in a new one; a smaller one
        comes last.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        batch_size: int,
        *,
        shuffle: bool | Literal["batch"],
        weights: Array | None = None,
    ) -> None:
        if len(x) == 0:
            raise ValueError("`x` must hold at least one sample. Received: none")
        self._arrays = (x, y) if weights is None else (x, y, weights)
        self._size = min(batch_size, len(x))
        self._shuffle = shuffle
        if shuffle is True:
            self._devices = [devices.device_of(a) for a in self._arrays]
            self._batch = [
                device.empty((self._size, *a.shape[1:]), a.dtype)
                for device, a in zip(self._devices, self._arrays, strict=True)
            ]

    def __len__(self) -> int:
        return -(-len(self._arrays[0]) // self._size)

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        batches = self._shuffled() if self._shuffle is True else self._in_order()
        if not any(map(devices.is_cupys, self._arrays)):
            return batches
        # Between two batches the current device may become another one.
        return (tuple(map(_read_here, batch)) for batch in batches)

    def endless(self) -> Iterator[tuple[Array, ...]]:
        """Iterate again and again."""
        while True:
            yield from self

    def _in_order(self) -> Iterator[tuple[Array, ...]]:
        count = len(self._arrays[0])
        starts: Iterable[int] = range(0, count, self._size)
        if self._shuffle:
            order = random_generator().permutation(count // self._size) * self._size
            starts = [*order.tolist(), *range(len(order) * self._size, count, self._size)]
        for start in starts:
            yield tuple(array[start : start + self._size] for array in self._arrays)

    def _shuffled(self) -> Iterator[tuple[Array, ...]]:
        order = random_generator().permutation(len(self._arrays[0]))
        batch = tuple(self._batch)
        for start in range(0, len(order), self._size):
            rows = order[start : start + self._size]
            if len(rows) < self._size:
                batch = tuple(array[: len(rows)] for array in batch)
            for device, array, part in zip(self._devices, self._arrays, batch, strict=True):
                device.take_rows(array, rows, part)
            yield batch


def batches_of(
    arrays: tuple[Array, ...], batch_size: int, *, shuffle: bool | Literal["batch"]
) -> Batches:
    """Make batches of (x, y) or (x, y, weights)."""
    x, y, *weights = arrays
    return Batches(x, y, batch_size, shuffle=shuffle, weights=weights[0] if weights else None)
