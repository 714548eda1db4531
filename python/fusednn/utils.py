"""The public ``fusednn.utils``: the process's random generator, one-hot labels, threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fusednn.blas_threads import share_blas_threads
from fusednn.data.py_dataset import PyDataset
from fusednn.thread_limits import register_threadpoolctl

__all__ = [
    "PyDataset",
    "Sequence",
    "random_generator",
    "register_threadpoolctl",
    "set_random_seed",
    "share_blas_threads",
    "to_categorical",
]

#: Keras 2's name.
Sequence = PyDataset

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


def to_categorical(
    x: ArrayLike, num_classes: int | None = None, dtype: DTypeLike = "float32"
) -> np.ndarray[Any, np.dtype[Any]]:
    """One-hot rows of integer class labels.

    Parameters
    ----------
    x : array_like of int
        Labels in [0, num_classes), of any shape; a last axis of length 1 is dropped, as in Keras.
    num_classes : int, optional
        Number of classes; ``max(x) + 1`` if not given.
    dtype : dtype_like
        Type of the result. Keras' returns float64 whatever the default float is.

    Returns
    -------
    ndarray
        Shape ``x.shape + (num_classes,)``.

    Raises
    ------
    TypeError
        If the labels are not whole numbers.
    ValueError
        If a label is out of range (the label, the range and its flat position are named).
    """
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    whole = labels.astype(np.int64, copy=False)
    if labels.dtype.kind not in "biuf" or not np.array_equal(whole, labels):
        raise TypeError(f"`x` must hold whole numbers. Received: x of dtype {labels.dtype}")
    if num_classes is None:
        if whole.size == 0:
            raise ValueError("`num_classes` must be given where `x` is empty.")
        num_classes = int(whole.max()) + 1
    wrong = np.flatnonzero((whole < 0) | (whole >= num_classes))
    if wrong.size:
        raise ValueError(
            f"`x` must hold labels in [0, {num_classes}). "
            f"Received: {whole.flat[wrong[0]]} at position {wrong[0]}"
        )
    one_hot = np.zeros((whole.size, num_classes), dtype=dtype)
    one_hot[np.arange(whole.size), whole.ravel()] = 1
    return one_hot.reshape(*whole.shape, num_classes)
