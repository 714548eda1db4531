"""What a model is fed with, batch by batch: arrays, data sets, sequences of batches, generators."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import count
from typing import Any

from fusednn.data import INFINITE_CARDINALITY, Dataset
from fusednn.models.data import Array, Batches
from fusednn.randomness import random_generator

Batch = tuple[Array, ...]

_OUT_OF_DATA = (
    "Your input ran out of data; interrupting training. Make sure that your dataset or generator "
    "can generate at least `steps_per_epoch * epochs` batches. You may need to use the `.repeat()` "
    "function when building your dataset."
)


def makes_batches(x: Any) -> bool:
    """Whether `x` gives batches (a data set, a sequence of batches, an iterable) or is an array."""
    if isinstance(x, Dataset):
        return True
    if isinstance(x, (list, tuple, str, bytes, range, Mapping, Set)) or hasattr(x, "__array__"):
        return False
    try:
        memoryview(x)
    except TypeError:
        return hasattr(x, "__iter__") or hasattr(x, "__next__") or _is_sequence(x)
    return False


def kind_of(x: Any) -> str:
    """Return what messages call a source of batches."""
    if isinstance(x, Dataset):
        return "Dataset"
    return "generator" if hasattr(x, "__next__") else type(x).__name__


def _is_sequence(x: Any) -> bool:
    return hasattr(x, "__getitem__") and (hasattr(x, "__len__") or hasattr(x, "num_batches"))


def length_of(source: Any) -> int | None:
    """Return the number of batches, `INFINITE_CARDINALITY`, or None where it is not known."""
    if isinstance(source, Dataset):
        known = source.cardinality()
        return known if known >= 0 or known == INFINITE_CARDINALITY else None
    if _is_sequence(source) and not isinstance(source, Batches):
        batches = source.num_batches if hasattr(source, "num_batches") else len(source)
        return INFINITE_CARDINALITY if batches is None else int(batches)
    try:
        return len(source)
    except TypeError:
        return None


class Feed:
    """Batches of a model's inputs, targets and weights, epoch by epoch.

    Parameters
    ----------
    source : Batches, Dataset, sequence of batches, iterable or iterator
        See `Sequential.fit`.
    convert : callable
        Makes arrays that fit the model of what the source gives and of the batch's number.
    steps : int, optional
        Batches that make an epoch. An epoch then goes on where the one before stopped; where the
        data end within it, it is short, a warning says so, and the next one starts again.
    name : str
        What messages call the source.
    shuffle : bool
        Whether a sequence of batches is taken in a new order each epoch.
    steps_name : str
        What messages call `steps`.

    Attributes
    ----------
    steps : int or None
        As given, else the number of batches, where it is known or was found out.
    ended : bool
        Whether an iterator, which cannot start again, has come to its end.
    """

    def __init__(
        self,
        source: Any,
        convert: Callable[[Any, int], Batch] | None = None,
        *,
        steps: int | None = None,
        name: str = "x",
        shuffle: bool = False,
        steps_name: str = "steps_per_epoch",
    ) -> None:
        self._source = source
        self._convert = convert
        self._given_steps = steps
        self._name = name
        self._shuffle = shuffle
        self._stream: Iterator[Any] | None = None
        self._restartable = not hasattr(source, "__next__")
        self._begun = False  # whether there was a batch
        self.ended = False
        self._warned = False
        self._at: dict[str, Any] = {}  # of the generator, as the pass began
        self._passes = 0  # begun so far
        self._of_pass = 0  # batches since then
        self._of_all = 0
        if isinstance(source, Dataset) and source._stage.holds_rows:
            raise ValueError(
                f"`{name}` must be a Dataset of batches: call its `batch`. Received: {source!r}"
            )
        length = length_of(source)
        if steps is None and length == INFINITE_CARDINALITY:
            raise ValueError(
                f"`{steps_name}` must be given where `{name}` has no end. Received: {source!r}"
            )
        if length == 0:
            raise ValueError(f"`{name}` must hold at least one batch. Received: none")
        self.steps = length if steps is None else steps

    def _start(self) -> Iterator[Any]:
        source = self._source
        self._at = dict(random_generator().bit_generator.state)
        self._of_pass = 0
        self._passes += 1
        if isinstance(source, (Batches, Dataset)) or not _is_sequence(source):
            return iter(source)
        return _in_turn(source, length_of(source), shuffle=self._shuffle)

    def epoch(self, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, of which `done` are done already (see `go_to`)."""
        self._tell("on_epoch_begin")
        again = self._given_steps is None and self._restartable and not done
        fresh = self._stream is None or again
        if fresh:
            self.restart()
            self._stream = self._start()
        taken = done
        try:
            while self._given_steps is None or taken < self._given_steps:
                batch = self._next()
                if batch is None and taken == 0 and self._restartable and not fresh:
                    # The epoch before took the last one.
                    self._stream, fresh = self._start(), True
                    batch = self._next()
                if batch is None:
                    self._out_of_data(taken)
                    return
                yield batch if self._convert is None else self._convert(batch, taken + 1)
                taken += 1
                self._begun = True
        finally:
            self._tell("on_epoch_end")

    def _next(self) -> Any:
        assert self._stream is not None
        batch = next(self._stream, None)
        if batch is None:
            self._stream = None
        else:
            self._of_pass += 1
            self._of_all += 1
        return batch

    def _out_of_data(self, taken: int) -> None:
        if not self._begun:
            raise ValueError(f"`{self._name}` must hold at least one batch. Received: none")
        self.ended = not self._restartable
        if self._given_steps is not None or not taken:
            self.warn()
        else:
            self.steps = taken

    def check_evaluations(self, times: int) -> None:
        """Refuse an iterator of validation data that would be empty from the second time on."""
        if times > 1 and not self._restartable and self._given_steps is None:
            raise ValueError(
                "`validation_steps` must be given where `validation_data` is a generator, which "
                f"can be read only once. Received: validation_steps=None for {times} evaluations"
            )

    def warn(self) -> None:
        """Say that the data end too early; of an iterator, once."""
        if self.ended and self._warned:
            return
        self._warned = True
        warnings.warn(_OUT_OF_DATA, UserWarning, stacklevel=4)

    def _tell(self, hook: str) -> None:
        method = getattr(self._source, hook, None)
        if callable(method):
            method()

    def restart(self) -> None:
        """Have the next epoch begin with the first batch; an iterator goes on."""
        self.close()

    def close(self) -> None:
        """Give up the pass over the data, and end threads that work for it."""
        stream, self._stream = self._stream, None
        if stream is not None and stream is not self._source and hasattr(stream, "close"):
            stream.close()

    def place(self) -> dict[str, Any]:
        """Return where the feed is in its data, for `go_to` in another process."""
        return {
            "generator": self._at,
            "passes": self._passes,
            "of pass": self._of_pass,
            "of all": self._of_all,
        }

    def go_to(self, place: dict[str, Any], done: int) -> None:
        """Go on where another process was.

        Parameters
        ----------
        place
            What `place` returned there.
        done
            How many batches of the epoch are done.

        Notes
        -----
        The random generator is left as it was when that process began to read the data.
        """
        within = bool(done or self._given_steps is not None)
        if isinstance(self._source, Dataset):
            # The order of a pass follows from its number, or from the generator as it began.
            self._source._pass_iterations(place["passes"] - within)
        self._passes = place["passes"] - within
        if not self._restartable:
            batches = place["of all"]
        elif within:
            random_generator().bit_generator.state = place["generator"]
            batches = place["of pass"]
        else:
            return
        if batches and self._stream is None:
            self._stream = self._start()
        for _ in range(batches):
            self._next()
        self._begun = self._begun or batches > 0


def _in_turn(source: Any, length: int | None, *, shuffle: bool) -> Iterator[Any]:
    numbers: Any = count() if length in (None, INFINITE_CARDINALITY) else range(length or 0)
    if shuffle and isinstance(numbers, range):
        numbers = random_generator().permutation(len(numbers)).tolist()
    workers = getattr(source, "workers", 1)
    processes = bool(getattr(source, "use_multiprocessing", False))
    if workers > 1 or (processes and workers):
        # Only who has workers pays for their modules.
        from fusednn.data.workers import computed_ahead

        ahead = getattr(source, "max_queue_size", 10)
        yield from computed_ahead(
            source, numbers, workers=workers, processes=processes, ahead=ahead
        )
        return
    for number in numbers:
        yield source[number]


def parts_of(batch: Any, name: str, number: int) -> tuple[Any, ...]:
    """Return ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)`` of what a source gave.

    Raises
    ------
    ValueError, TypeError
        If it is none of these.
    """
    if isinstance(batch, Mapping):
        raise TypeError(
            f"Batch {number} of `{name}` must be (x, y) or (x, y, sample_weight). "
            "Received: a dictionary"
        )
    if not isinstance(batch, tuple):
        is_tuple = isinstance(batch, list) and all(hasattr(part, "shape") for part in batch)
        batch = tuple(batch) if is_tuple else (batch,)
    if not 1 <= len(batch) <= 3:
        raise ValueError(
            f"Batch {number} of `{name}` must be (x, y) or (x, y, sample_weight). "
            f"Received: {len(batch)} parts"
        )
    return tuple(batch)
