"""Pipelines of elements: where they come from, in which order, in which batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn import utils
from fusednn._arguments import check_count
from fusednn.data import order
from fusednn.data.memory_maps import map_npy, map_npz
from fusednn.data.order import Block
from fusednn.data.prefetching import prefetched

Array = np.ndarray[Any, np.dtype[Any]]

#: What `Dataset.cardinality` returns of data that never end, and of data of unknown length.
INFINITE_CARDINALITY = -1
UNKNOWN_CARDINALITY = -2

#: Names of the arrays that `Dataset.from_npz` looks for.
_NPZ_NAMES = (("x", "y"), ("x_train", "y_train"))


class Dataset:
    """Elements that are read when they are needed, and need not fit in memory.

    An element is an array, or a tuple of arrays: ``(x, y)`` or ``(x, y, sample_weight)`` where a
    model is fitted. Make one with `from_tensor_slices`, `from_npy`, `from_npz` or `from_generator`;
    each method returns a new one and leaves its own as it is. The methods are named after
    tf.data's, and mean the same.

    Examples
    --------
    >>> from fusednn.data import Dataset
    >>> rows = Dataset.from_tensor_slices(([[1.0], [2.0], [3.0]], [0, 1, 1]))
    >>> [y.tolist() for x, y in rows.batch(2)]
    [[0, 1], [1]]
    >>> rows.shuffle().batch(2).prefetch(1)
    <Dataset.from_tensor_slices.shuffle.batch.prefetch, 2 elements>

    Notes
    -----
    Rows of arrays are moved as numbers: `shuffle`, `repeat`, `take` and `skip` read nothing, and
    `batch` reads all rows of a batch at once. Rows in their order are views, without copies.

    Each iteration shuffles anew. Orders are drawn from `fusednn.utils.random_generator`, or from
    the seed that `shuffle` was given and the number of the iteration: either way the same seed
    gives the same elements in the same order, with `prefetch` and without. `fit` that goes on
    after its process ended (`callbacks.BackupAndRestore`) has the orders of the epochs that are
    left.
    """

    def __init__(self) -> None:
        raise TypeError(
            "Make a Dataset with `Dataset.from_tensor_slices`, `from_npy`, `from_npz` or "
            "`from_generator`."
        )

    _label = ""
    _shuffles = 0  # how many steps of the pipeline shuffle
    _count = UNKNOWN_CARDINALITY
    #: Whether elements are rows of arrays, hence no batches.
    _holds_rows = False
    _iterations = 0  # begun so far

    # ---- what a kind of data set provides

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        """Return a stream of blocks of names; chance comes from `key` alone."""
        raise NotImplementedError

    def _element(self, name: Any) -> Any:
        """Return the element of this name."""
        raise NotImplementedError

    def _stacked(self, names: Block) -> Any:
        """Return the elements of these names as one, with a first axis more."""
        return _stack([self._element(name) for name in names])

    # ---- made of data

    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """Return the rows of an array, or of each array of a tuple, as elements.

        Parameters
        ----------
        tensors : array_like, or tuple of array_like
            With first axes of one length. Arrays are not copied, and may be memory maps.

        Raises
        ------
        TypeError, ValueError
            If an array does not hold numbers, has no axis, or another length than the first.
        """
        return _Rows("from_tensor_slices", tensors)

    @staticmethod
    def from_npy(*paths: str | os.PathLike[str]) -> Dataset:
        """Return the rows of arrays in .npy files, as `from_tensor_slices` of memory maps.

        One path makes elements that are arrays; several, such as those of x and y, tuples.

        Raises
        ------
        OSError, ValueError
            See `map_npy`.
        """
        if not paths:
            raise TypeError("`paths` must be one path or more. Received: none")
        maps = tuple(map_npy(path) for path in paths)
        return _Rows("from_npy", maps[0] if len(maps) == 1 else maps)

    @staticmethod
    def from_npz(path: str | os.PathLike[str], names: str | Sequence[str] | None = None) -> Dataset:
        """Return the rows of arrays in a .npz file, as `from_tensor_slices` of memory maps.

        Parameters
        ----------
        path
            As `numpy.savez` writes it, not compressed.
        names
            Names of the arrays; of one alone, elements are arrays, else tuples. None: "x" and "y",
            else "x_train" and "y_train".

        Raises
        ------
        OSError, ValueError
            See `map_npz`; or an array of this name is not there.
        """
        arrays = map_npz(path)
        if names is None:
            names = next((pair for pair in _NPZ_NAMES if set(pair) <= set(arrays)), _NPZ_NAMES[0])
        wanted = [names] if isinstance(names, str) else list(names)
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise ValueError(
                f"{os.fspath(path)}: must hold the array {missing[0]!r}. "
                f"Received: {', '.join(sorted(arrays))}"
            )
        maps = tuple(arrays[name] for name in wanted)
        return _Rows("from_npz", maps[0] if isinstance(names, str) else maps)

    @staticmethod
    def from_generator(make: Callable[[], Iterable[Any]]) -> Dataset:
        """Return what a function's iterable yields as elements.

        Parameters
        ----------
        make : callable
            Called without arguments for each iteration, such as a generator function. (A generator
            object would be empty after one iteration.)

        Raises
        ------
        TypeError
            If `make` cannot be called.
        """
        if not callable(make):
            raise TypeError(
                "`make` must be a function without arguments that returns an iterable. "
                f"Received: make={make!r}"
            )
        return _Generated(make)

    # ---- changed

    def shuffle(
        self,
        buffer_size: int | None = None,
        seed: int | None = None,
        reshuffle_each_iteration: bool = True,
    ) -> Dataset:
        """Return the elements in a random order.

        Parameters
        ----------
        buffer_size : int, optional
            Each element is drawn from the next so many. None: from all, which makes every order as
            likely as another. Of rows of arrays, numbers wait in the buffer, 8 bytes each.
        seed : int, optional
            At least 0. None: drawn from `fusednn.utils.random_generator` at each iteration.
        reshuffle_each_iteration : bool
            Whether each iteration, and each repetition by `repeat`, has an order of its own.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or all of endless data are to be shuffled.
        """
        if buffer_size is not None:
            buffer_size = check_count("buffer_size", buffer_size, 1)
        elif self._count == INFINITE_CARDINALITY:
            raise ValueError(
                "`buffer_size` must be given where data never end. Received: buffer_size=None"
            )
        if seed is not None:
            seed = check_count("seed", seed, 0)
        return _Shuffled(self, buffer_size, seed, bool(reshuffle_each_iteration))

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Return elements of `batch_size` elements stacked along a new first axis.

        Parameters
        ----------
        batch_size : int
            The last one is smaller where the number of elements is no multiple.
        drop_remainder : bool
            Whether such a last one is left out.
        """
        return _Batched(self, check_count("batch_size", batch_size, 1), bool(drop_remainder))

    def map(self, function: Callable[..., Any]) -> Dataset:
        """Return ``function(x)`` for each element, or ``function(x, y)`` where it is a tuple.

        After `batch`, the function is called once for a batch, which is faster. It must not change
        its arguments, which may be views of the data.
        """
        if not callable(function):
            raise TypeError(f"`function` must be callable. Received: function={function!r}")
        return _Mapped(self, function)

    def prefetch(self, buffer_size: int) -> Dataset:
        """Return the same elements, made by a thread that is up to `buffer_size` of them ahead.

        Useful as the last step. The thread ends with the iteration, also where that is given up;
        its exceptions are raised by the iteration.
        """
        return _Prefetched(self, check_count("buffer_size", buffer_size, 1))

    def repeat(self, count: int | None = None) -> Dataset:
        """Return the elements `count` times; None or -1: without end."""
        if count is None or count == -1:
            return _Repeated(self, None)
        return _Repeated(self, check_count("count", count, 0))

    def take(self, count: int) -> Dataset:
        """Return the first `count` elements; -1: all."""
        return self if count == -1 else _Taken(self, check_count("count", count, 0))

    def skip(self, count: int) -> Dataset:
        """Return all but the first `count` elements; -1: none."""
        return self.take(0) if count == -1 else _Skipped(self, check_count("count", count, 0))

    # ---- read

    def cardinality(self) -> int:
        """Return the number of elements, `INFINITE_CARDINALITY` or `UNKNOWN_CARDINALITY`."""
        return self._count

    def __len__(self) -> int:
        if self._count < 0:
            state = "never end" if self._count == INFINITE_CARDINALITY else "are of unknown length"
            raise TypeError(f"The elements of {self!r} {state}.")
        return self._count

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        # Drawn here, not by a thread that works ahead.
        drawn = int(utils.random_generator().integers(2**63)) if self._shuffles else 0
        key = drawn, self._iterations
        self._iterations += 1
        return self._read(key)

    def _read(self, key: tuple[int, ...]) -> Iterator[Any]:
        for block in self._blocks(key):
            for name in block:
                yield self._element(name)

    def _pass_iterations(self, count: int) -> None:
        """Count iterations that another process made."""
        self._iterations += count

    def __repr__(self) -> str:
        count = {INFINITE_CARDINALITY: "endless", UNKNOWN_CARDINALITY: "of unknown length"}.get(
            self._count, f"{self._count} elements"
        )
        return f"<Dataset.{self._label}, {count}>"


class _Rows(Dataset):
    """Rows of arrays; a name is a row's number."""

    _holds_rows = True

    def __init__(self, label: str, tensors: Any) -> None:
        self._label = label
        self._single = not isinstance(tensors, tuple)
        given = (tensors,) if self._single else tensors
        if not given:
            raise ValueError("`tensors` must hold an array. Received: an empty tuple")
        self._arrays = tuple(_numbers(array, i) for i, array in enumerate(given))
        self._count = len(self._arrays[0])
        for i, array in enumerate(self._arrays):
            if len(array) != self._count:
                raise ValueError(
                    f"`tensors[{i}]` must have as many rows as `tensors[0]`, {self._count}. "
                    f"Received: {len(array)}"
                )

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        return order.numbered(self._count)

    def _element(self, name: Any) -> Any:
        row = int(name)
        if self._single:
            return np.asarray(self._arrays[0][row])
        return tuple(np.asarray(array[row]) for array in self._arrays)

    def _stacked(self, names: Block) -> Any:
        first, last = int(names[0]), int(names[-1])
        if last - first == len(names) - 1 and bool((np.diff(names) == 1).all()):
            parts = tuple(array[first : last + 1] for array in self._arrays)
        else:
            parts = tuple(array.take(names, axis=0) for array in self._arrays)
        return parts[0] if self._single else parts


class _Generated(Dataset):
    """What a generator yields; an element is its own name."""

    _label = "from_generator"

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        for element in self._make():
            yield order.single(element)

    def _element(self, name: Any) -> Any:
        return name


class _Changed(Dataset):
    """A data set with the elements of another one, `before`."""

    def __init__(self, before: Dataset, label: str) -> None:
        self._before = before
        self._label = f"{before._label}.{label}"
        self._shuffles = before._shuffles
        self._count = before._count
        self._holds_rows = before._holds_rows

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        return self._before._blocks(key)

    def _element(self, name: Any) -> Any:
        return self._before._element(name)

    def _stacked(self, names: Block) -> Any:
        return self._before._stacked(names)


class _Shuffled(_Changed):
    def __init__(
        self, before: Dataset, buffer_size: int | None, seed: int | None, reshuffle: bool
    ) -> None:
        super().__init__(before, "shuffle")
        self._shuffles += 1
        self._buffer_size = buffer_size
        self._seed = seed
        self._reshuffle = reshuffle
        self._kept: int | None = None  # of the generator, where all iterations have one order

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        drawn, *path = key
        if self._seed is not None:
            drawn = self._seed
        if not self._reshuffle:
            if self._kept is None:
                self._kept = drawn
            drawn, path = self._kept, []
        random = np.random.default_rng((drawn, self._shuffles, *path))
        return order.shuffled(self._before._blocks(key), self._buffer_size, random)


class _Repeated(_Changed):
    def __init__(self, before: Dataset, count: int | None) -> None:
        super().__init__(before, "repeat")
        self._times = count
        if count is None and before._count != 0:
            self._count = INFINITE_CARDINALITY
        elif count == 0:
            self._count = 0
        elif count is not None and before._count > 0:
            self._count = before._count * count

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        turn = 0
        while turn != self._times:
            empty = True
            for block in self._before._blocks((*key, turn)):
                empty = empty and not len(block)
                yield block
            if empty:
                return
            turn += 1


class _Taken(_Changed):
    def __init__(self, before: Dataset, count: int) -> None:
        super().__init__(before, "take")
        self._most = count
        if before._count == INFINITE_CARDINALITY or count == 0:
            self._count = count
        elif before._count >= 0:
            self._count = min(before._count, count)

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        return order.taken(self._before._blocks(key), self._most)


class _Skipped(_Changed):
    def __init__(self, before: Dataset, count: int) -> None:
        super().__init__(before, "skip")
        self._left_out = count
        if before._count >= 0:
            self._count = max(before._count - count, 0)

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        return order.skipped(self._before._blocks(key), self._left_out)


class _Batched(_Changed):
    """A name is the block of the names of a batch's elements."""

    def __init__(self, before: Dataset, size: int, drop_remainder: bool) -> None:
        super().__init__(before, "batch")
        self._size = size
        self._drop_remainder = drop_remainder
        self._holds_rows = False
        if before._count >= 0:
            self._count = before._count // size if drop_remainder else -(-before._count // size)

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        groups = order.grouped(
            self._before._blocks(key), self._size, drop_remainder=self._drop_remainder
        )
        return map(order.single, groups)

    def _element(self, name: Any) -> Any:
        return self._before._stacked(name)

    def _stacked(self, names: Block) -> Any:
        return Dataset._stacked(self, names)


class _Mapped(_Changed):
    def __init__(self, before: Dataset, function: Callable[..., Any]) -> None:
        super().__init__(before, "map")
        self._function = function

    def _element(self, name: Any) -> Any:
        element = self._before._element(name)
        return self._function(*element) if isinstance(element, tuple) else self._function(element)

    def _stacked(self, names: Block) -> Any:
        return Dataset._stacked(self, names)


class _Prefetched(_Changed):
    """An element is its own name."""

    def __init__(self, before: Dataset, count: int) -> None:
        super().__init__(before, "prefetch")
        self._ahead = count

    def _blocks(self, key: tuple[int, ...]) -> Iterator[Block]:
        for element in prefetched(lambda: self._before._read(key), self._ahead):
            yield order.single(element)

    def _element(self, name: Any) -> Any:
        return name

    def _stacked(self, names: Block) -> Any:
        return Dataset._stacked(self, names)


def _numbers(values: ArrayLike, place: int) -> Array:
    array = np.asarray(values)
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
            return tuple(np.stack(parts) for parts in zip(*elements, strict=True))
        return np.stack(elements)
    except ValueError as error:
        raise ValueError(
            f"The elements of a batch must have the same parts and shapes. {error}"
        ) from None
