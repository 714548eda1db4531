"""Losses with Keras' names and numbers, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusednn._serialization import Registry, serialize
from fusednn.losses.base import Loss
from fusednn.losses.binary import BinaryCrossentropy, binary_crossentropy
from fusednn.losses.categorical import (
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from fusednn.losses.regression import MeanSquaredError, mean_squared_error
from fusednn.losses.scratch import Scratch

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Loss",
    "MeanSquaredError",
    "Scratch",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "get",
    "mean_squared_error",
    "serialize",
    "sparse_categorical_crossentropy",
]

_registry: Registry[Loss] = Registry(
    "loss",
    Loss,
    [
        MeanSquaredError,
        BinaryCrossentropy,
        CategoricalCrossentropy,
        SparseCategoricalCrossentropy,
    ],
    {"mse": MeanSquaredError, "bce": BinaryCrossentropy},
)

_of_function: dict[Callable[..., Any], type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    binary_crossentropy: BinaryCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
}


def get(identifier: Any) -> Loss:
    """Return a loss.

    Parameters
    ----------
    identifier
        A `Loss` (returned as it is), a class, one of this module's functions, a name
        (``"mean_squared_error"``, ``"mse"``, ``"MeanSquaredError"``, ...), or a dictionary
        ``{"class_name": ..., "config": ...}``. Keras returns a function for the name of one; here
        it is always a `Loss`, which knows its gradient.

    Raises
    ------
    ValueError
        It is none of these.
    """
    for function, cls in _of_function.items():
        if identifier is function:
            return cls()
    return _registry.get(identifier)
