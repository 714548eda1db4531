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
        Must be 1: batches are computed where they are used. For a thread that works ahead, make a
        `Dataset.from_generator` and `prefetch` it.
    use_multiprocessing : bool
        Must be False.
    max_queue_size : int
        Accepted for Keras' sake; without workers there is no queue.
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        if workers != 1:
            raise ValueError(
                "`workers` must be 1: prefetch a `Dataset.from_generator` for a thread that works "
                f"ahead. Received: workers={workers!r}"
            )
        if use_multiprocessing:
            raise ValueError(
                "`use_multiprocessing` must be False. "
                f"Received: use_multiprocessing={use_multiprocessing!r}"
            )
        check_count("max_queue_size", max_queue_size, minimum=0)

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
