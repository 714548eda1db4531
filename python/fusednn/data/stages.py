"""The stages of a pipeline of elements: where they come from, and what each step does to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fusednn import devices
from fusednn.data import order
from fusednn.data.order import Block
from fusednn.data.prefetching import prefetched

Array = np.ndarray[Any, np.dtype[Any]]

#: What `Dataset.cardinality` returns of data that never end, and of data of unknown length.
INFINITE_CARDINALITY = -1
UNKNOWN_CARDINALITY = -2


class Stage:
    """A stream of names of elements, and the elements that they name.

    Attributes
    ----------
    label : str
        The steps so far.
    shuffles : int
        How many of them shuffle.
    count : int
        The number of elements, or one of the cardinalities.
    holds_rows : bool
        Whether elements are rows of arrays, hence no batches.
    """

    label = ""
    shuffles = 0
    count = UNKNOWN_CARDINALITY
    holds_rows = False

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Return a stream of blocks of names; chance comes from `key` alone."""
        raise NotImplementedError

    def element(self, name: Any) -> Any:
        """Return the element of this name."""
        raise NotImplementedError

    def stacked(self, names: Block) -> Any:
        """Return the elements of these names as one, with a first axis more."""
        return _stack([self.element(name) for name in names])

    def read(self, key: tuple[int, ...]) -> Iterator[Any]:
        """Yield the elements of an iteration."""
        for block in self.blocks(key):
            for name in block:
                yield self.element(name)


class Rows(Stage):
    """Rows of arrays; a name is a row's number."""

    holds_rows = True

    def __init__(self, label: str, tensors: Any) -> None:
        self.label = label
        self._single = not isinstance(tensors, tuple)
        given = (tensors,) if self._single else tensors
        if not given:
            raise ValueError("`tensors` must hold an array. Received: an empty tuple")
        self._arrays = tuple(_numbers(array, i) for i, array in enumerate(given))
        self.count = len(self._arrays[0])
        for i, array in enumerate(self._arrays):
            if len(array) != self.count:
                raise ValueError(
                    f"`tensors[{i}]` must have as many rows as `tensors[0]`, {self.count}. "
                    f"Received: {len(array)}"
                )

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name the rows in their order."""
        return order.numbered(self.count)

    def element(self, name: Any) -> Any:
        """Return a row of each array."""
        parts = tuple(array[int(name), ...] for array in self._arrays)
        return parts[0] if self._single else parts

    def stacked(self, names: Block) -> Any:
        """Return rows of each array: a view of neighbours, else a copy."""
        first, last = int(names[0]), int(names[-1])
        if last - first == len(names) - 1 and bool((np.diff(names) == 1).all()):
            parts = tuple(array[first : last + 1] for array in self._arrays)
        else:
            parts = tuple(devices.rows_of(array, names) for array in self._arrays)
        return parts[0] if self._single else parts


class Generated(Stage):
    """What a generator yields; an element is its own name."""

    label = "from_generator"

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name what the generator yields."""
        for element in self._make():
            yield order.single(element)

    def element(self, name: Any) -> Any:
        """Return the name."""
        return name


class Changed(Stage):
    """The elements of another stage, `before`."""

    def __init__(self, before: Stage, label: str) -> None:
        self._before = before
        self.label = f"{before.label}.{label}"
        self.shuffles = before.shuffles
        self.count = before.count
        self.holds_rows = before.holds_rows

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name what the stage before names."""
        return self._before.blocks(key)

    def element(self, name: Any) -> Any:
        """Return the stage before's element."""
        return self._before.element(name)

    def stacked(self, names: Block) -> Any:
        """Return the stage before's elements as one."""
        return self._before.stacked(names)


class Shuffled(Changed):
    """The elements in a random order; see `Dataset.shuffle`."""

    def __init__(
        self, before: Stage, buffer_size: int | None, seed: int | None, reshuffle: bool
    ) -> None:
        super().__init__(before, "shuffle")
        self.shuffles += 1
        self._buffer_size = buffer_size
        self._seed = seed
        self._reshuffle = reshuffle
        self._kept: int | None = None  # of the generator, where all iterations have one order

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name the same at random."""
        drawn, *path = key
        if self._seed is not None:
            drawn = self._seed
        if not self._reshuffle:
            if self._kept is None:
                self._kept = drawn
            drawn, path = self._kept, []
        random = np.random.default_rng((drawn, self.shuffles, *path))
        return order.shuffled(self._before.blocks(key), self._buffer_size, random)


class Repeated(Changed):
    """The elements several times, or without end (None)."""

    def __init__(self, before: Stage, count: int | None) -> None:
        super().__init__(before, "repeat")
        self._times = count
        if count is None and before.count != 0:
            self.count = INFINITE_CARDINALITY
        elif count == 0:
            self.count = 0
        elif count is not None and before.count > 0:
            self.count = before.count * count

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name the same again and again."""
        turn = 0
        while turn != self._times:
            empty = True
            for block in self._before.blocks((*key, turn)):
                empty = empty and not len(block)
                yield block
            if empty:
                return
            turn += 1


class Taken(Changed):
    """The first elements."""

    def __init__(self, before: Stage, count: int) -> None:
        super().__init__(before, "take")
        self._most = count
        if before.count == INFINITE_CARDINALITY or count == 0:
            self.count = count
        elif before.count >= 0:
            self.count = min(before.count, count)

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name the first ones."""
        return order.taken(self._before.blocks(key), self._most)


class Skipped(Changed):
    """All but the first elements."""

    def __init__(self, before: Stage, count: int) -> None:
        super().__init__(before, "skip")
        self._left_out = count
        if before.count >= 0:
            self.count = max(before.count - count, 0)

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name all but the first ones."""
        return order.skipped(self._before.blocks(key), self._left_out)


class Batched(Changed):
    """A name is the block of the names of a batch's elements."""

    def __init__(self, before: Stage, size: int, drop_remainder: bool) -> None:
        super().__init__(before, "batch")
        self._size = size
        self._drop_remainder = drop_remainder
        self.holds_rows = False
        if before.count >= 0:
            self.count = before.count // size if drop_remainder else -(-before.count // size)

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name groups of names."""
        groups = order.grouped(
            self._before.blocks(key), self._size, drop_remainder=self._drop_remainder
        )
        return map(order.single, groups)

    def element(self, name: Any) -> Any:
        """Return a batch."""
        return self._before.stacked(name)

    def stacked(self, names: Block) -> Any:
        """Return batches as one."""
        return Stage.stacked(self, names)


class Mapped(Changed):
    """A function of each element."""

    def __init__(self, before: Stage, function: Callable[..., Any]) -> None:
        super().__init__(before, "map")
        self._function = function

    def element(self, name: Any) -> Any:
        """Return the function of the stage before's element."""
        element = self._before.element(name)
        return self._function(*element) if isinstance(element, tuple) else self._function(element)

    def stacked(self, names: Block) -> Any:
        """Return what the function returned as one."""
        return Stage.stacked(self, names)


class Prefetched(Changed):
    """An element is its own name."""

    def __init__(self, before: Stage, count: int) -> None:
        super().__init__(before, "prefetch")
        self._ahead = count

    def blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Name what the thread makes."""

        def read() -> Iterator[Any]:
            for element in self._before.read(key):
                yield devices.finish(element)

        for element in prefetched(read, self._ahead):
            yield order.single(element)

    def element(self, name: Any) -> Any:
        """Return the name."""
        return name

    def stacked(self, names: Block) -> Any:
        """Return what the thread made as one."""
        return Stage.stacked(self, names)


def _numbers(values: Any, place: int) -> Array:
    try:
        array = devices.as_array(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(
            f"`tensors[{place}]` must be a rectangular array of numbers. {error}"
        ) from None
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"`tensors[{place}]` must be an array of real numbers. "
            f"Received: {type(values).__name__} of dtype {array.dtype}"
        )
    if array.ndim == 0:
        raise ValueError(f"`tensors[{place}]` must have rows. Received: a single number")
    return array


def _stack(elements: list[Any]) -> Any:
    try:
        if isinstance(elements[0], tuple):
            return tuple(devices.stacked(parts) for parts in zip(*elements, strict=True))
        return devices.stacked(elements)
    except ValueError as error:
        raise ValueError(
            f"The elements of a batch must have the same parts and shapes. {error}"
        ) from None
