"""Pipelines of elements: where they come from, in which order, in which batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fusednn._arguments import check_count
from fusednn.data import stages
from fusednn.data.memory_maps import map_npy, map_npz
from fusednn.data.stages import INFINITE_CARDINALITY, UNKNOWN_CARDINALITY, Stage
from fusednn.randomness import random_generator

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

    _stage: Stage
    _iterations = 0  # begun so far

    @staticmethod
    def _of(stage: Stage) -> Dataset:
        data = object.__new__(Dataset)
        data._stage = stage
        return data

    # ---- made of data

    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """Return the rows of an array, or of each array of a tuple, as elements.

        Parameters
        ----------
        tensors : array_like, or tuple of array_like
            With first axes of one length. Arrays are not copied, and may be memory maps, or
            CuPy's, whose rows are read on their GPU.

        Raises
        ------
        TypeError, ValueError
            If an array does not hold numbers, has no axis, or another length than the first.
        """
        return Dataset._of(stages.Rows("from_tensor_slices", tensors))

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
        return Dataset._of(stages.Rows("from_npy", maps[0] if len(maps) == 1 else maps))

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
        return Dataset._of(stages.Rows("from_npz", maps[0] if isinstance(names, str) else maps))

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
        return Dataset._of(stages.Generated(make))

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
        elif self._stage.count == INFINITE_CARDINALITY:
            raise ValueError(
                "`buffer_size` must be given where data never end. Received: buffer_size=None"
            )
        if seed is not None:
            seed = check_count("seed", seed, 0)
        return self._of(
            stages.Shuffled(self._stage, buffer_size, seed, bool(reshuffle_each_iteration))
        )

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Return elements of `batch_size` elements stacked along a new first axis.

        Parameters
        ----------
        batch_size : int
            The last one is smaller where the number of elements is no multiple.
        drop_remainder : bool
            Whether such a last one is left out.
        """
        return self._of(
            stages.Batched(
                self._stage, check_count("batch_size", batch_size, 1), bool(drop_remainder)
            )
        )

    def map(self, function: Callable[..., Any]) -> Dataset:
        """Return ``function(x)`` for each element, or ``function(x, y)`` where it is a tuple.

        After `batch`, the function is called once for a batch, which is faster. It must not change
        its arguments, which may be views of the data.
        """
        if not callable(function):
            raise TypeError(f"`function` must be callable. Received: function={function!r}")
        return self._of(stages.Mapped(self._stage, function))

    def prefetch(self, buffer_size: int) -> Dataset:
        """Return the same elements, made by a thread that is up to `buffer_size` of them ahead.

        Useful as the last step. The thread ends with the iteration, also where that is given up;
        its exceptions are raised by the iteration.
        """
        return self._of(stages.Prefetched(self._stage, check_count("buffer_size", buffer_size, 1)))

    def repeat(self, count: int | None = None) -> Dataset:
        """Return the elements `count` times; None or -1: without end."""
        if count is None or count == -1:
            return self._of(stages.Repeated(self._stage, None))
        return self._of(stages.Repeated(self._stage, check_count("count", count, 0)))

    def take(self, count: int) -> Dataset:
        """Return the first `count` elements; -1: all."""
        if count == -1:
            return self
        return self._of(stages.Taken(self._stage, check_count("count", count, 0)))

    def skip(self, count: int) -> Dataset:
        """Return all but the first `count` elements; -1: none."""
        if count == -1:
            return self.take(0)
        return self._of(stages.Skipped(self._stage, check_count("count", count, 0)))

    # ---- read

    def cardinality(self) -> int:
        """Return the number of elements, `INFINITE_CARDINALITY` or `UNKNOWN_CARDINALITY`."""
        return self._stage.count

    def __len__(self) -> int:
        if self._stage.count < 0:
            state = (
                "never end"
                if self._stage.count == INFINITE_CARDINALITY
                else "are of unknown length"
            )
            raise TypeError(f"The elements of {self!r} {state}.")
        return self._stage.count

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        # Drawn here, not by a thread that works ahead.
        drawn = int(random_generator().integers(2**63)) if self._stage.shuffles else 0
        key = drawn, self._iterations
        self._iterations += 1
        return self._stage.read(key)

    def _pass_iterations(self, count: int) -> None:
        """Count iterations that another process made."""
        self._iterations += count

    def __repr__(self) -> str:
        count = {INFINITE_CARDINALITY: "endless", UNKNOWN_CARDINALITY: "of unknown length"}.get(
            self._stage.count, f"{self._stage.count} elements"
        )
        return f"<Dataset.{self._stage.label}, {count}>"
