"""The public ``fusednn.utils``: the process's random generator, one-hot labels, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fusednn.blas_threads import share_blas_threads
from fusednn.data.py_dataset import PyDataset
from fusednn.randomness import random_generator, set_random_seed
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
