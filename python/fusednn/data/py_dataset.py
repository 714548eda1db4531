"""Batches that the user computes, by their numbers."""

from __future__ import annotations

from typing import Any

from fusednn._arguments import check_count


class PyDataset:
    """Base of data sets that return a batch for its number, as Keras' `PyDataset` (`Sequence`).

    A subclass defines ``__len__``, the number of batches, and ``__getitem__(index)``, which returns
    ``(x, y)`` or ``(x, y, sample_weight)``; perhaps `on_epoch_begin` and `on_epoch_end`. `fit`
    takes the batches in a new order each epoch unless ``shuffle=False``. Any object that has these
    methods will do; this class need not be its base.

    Parameters
    ----------
    workers : int
        Threads or processes that compute batches ahead, in their order; with 0 or 1 thread they
        are computed where they are used.
    use_multiprocessing : bool
        Processes, each with a copy of this object as it was when the epoch began, instead of
        threads. Their batches' random numbers (`random`, `numpy.random`) begin anew for each
        batch, and are the same in each run with the same seed, in whichever process. Those of
        threads that share a generator are not; with one worker in the calling thread they are.
    max_queue_size : int
        Batches that may wait or be computed; at least one for each worker.
    """

    # Here, for subclasses that do not call `__init__`.
    _workers = 1
    _use_multiprocessing = False
    _max_queue_size = 10

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    @property
    def workers(self) -> int:
        """Number of threads or processes. Settable, for the next epoch."""
        return self._workers

    @workers.setter
    def workers(self, value: int) -> None:
        self._workers = check_count("workers", value, minimum=0)

    @property
    def use_multiprocessing(self) -> bool:
        """Whether the workers are processes. Settable."""
        return self._use_multiprocessing

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        self._use_multiprocessing = bool(value)

    @property
    def max_queue_size(self) -> int:
        """Number of batches ahead. Settable."""
        return self._max_queue_size

    @max_queue_size.setter
    def max_queue_size(self, value: int) -> None:
        self._max_queue_size = check_count("max_queue_size", value, minimum=0)

    @property
    def num_batches(self) -> int | None:
        """Number of batches, ``len(self)``; a subclass may return None: there is no end."""
        return len(self)

    def __getitem__(self, index: int) -> Any:
        """Return batch `index`."""
        raise NotImplementedError("A PyDataset must define `__getitem__(index)`.")

    def __len__(self) -> int:
        """Return the number of batches."""
        raise NotImplementedError("A PyDataset must define `__len__()`, its number of batches.")

    def on_epoch_begin(self) -> None:
        """Before the first batch of an epoch is asked for."""

    def on_epoch_end(self) -> None:
        """After the last batch of an epoch was used."""
