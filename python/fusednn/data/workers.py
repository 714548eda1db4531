"""Batches that threads or processes compute ahead of who takes them, in their order."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np

from fusednn import devices
from fusednn.randomness import random_generator

#: Of a worker's process: the data set, and what its random numbers start from.
_kept: tuple[Any, int] | None = None


def computed_ahead(
    source: Any, numbers: Iterable[int], *, workers: int, processes: bool, ahead: int
) -> Iterator[Any]:
    """Yield ``source[number]`` for each number; up to `ahead` are computed or waiting.

    The workers start with the first batch that is asked for. They end with the last one, or when
    this generator is closed; what ``source`` raises is raised here, after the batches before.

    Each batch of a process begins with random numbers (of `random` and `numpy.random`) that follow
    from the package's generator and the batch's number, whichever process computes it.
    """
    pool: Executor
    if processes:
        seed = int(random_generator().integers(2**32))
        pool = ProcessPoolExecutor(workers, initializer=_keep, initargs=(source, seed))
    else:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="fusednn worker")
    pending: deque[Future[Any]] = deque()
    try:
        for number in numbers:
            if processes:
                pending.append(pool.submit(_batch, number))
            else:
                pending.append(pool.submit(_finished, source, number))
            if len(pending) >= max(ahead, workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(source: Any, number: int) -> Any:
    return devices.finish(source[number])


def _keep(source: Any, seed: int) -> None:
    global _kept
    _kept = source, seed


def _batch(number: int) -> Any:
    assert _kept is not None
    source, seed = _kept
    own = np.random.SeedSequence([seed, number])
    np.random.seed(own.generate_state(4))  # noqa: NPY002 (which users' code draws from)
    random.seed(int(own.generate_state(1)[0]))
    return source[number]
