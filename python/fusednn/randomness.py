"""The process's random generator: initializers, shuffling and dropout draw from it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# Made on first use: numpy.random is slow to import.
_generator: np.random.Generator | None = None


def random_generator() -> np.random.Generator:
    """Return the process-wide generator that initializers, shuffling and dropout draw from.

    Returns
    -------
    numpy.random.Generator
        PCG64; seeded from the operating system until `set_random_seed` is called, which puts
        a new generator in its place: ask for it where numbers are drawn, do not keep it.
    """
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


@contextmanager
def own_generator(generator: np.random.Generator) -> Iterator[None]:
    """Have the block draw from `generator`; the process's own goes on afterwards as if unused."""
    global _generator
    before, _generator = _generator, generator
    try:
        yield
    finally:
        _generator = before


def set_random_seed(seed: int) -> None:
    """Seed every source of chance, so that a run repeats bit for bit.

    Parameters
    ----------
    seed : int
        In [0, 2**32 - 1].

    Raises
    ------
    TypeError, ValueError
        If `seed` is not an integer, or out of range. Nothing is seeded then.

    Notes
    -----
    As in Keras, Python's ``random`` and NumPy's legacy ``np.random`` are seeded too, so that
    the user's own draws repeat. The bits also depend on the number of threads of the BLAS
    behind NumPy's matmul; fusednn's own kernels give the same bits at any number of threads.
    """
    global _generator
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"`seed` must be an integer. Received: seed={seed!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be in [0, 2**32 - 1]. Received: seed={seed}")
    random.seed(int(seed))
    np.random.seed(int(seed))  # noqa: NPY002 - the legacy state is what users' np.random calls read
    _generator = np.random.default_rng(int(seed))
