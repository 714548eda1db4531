"""Losses with Keras' names and numbers, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fusednn._serialization import Registry, custom, serialize
from fusednn.losses.base import Loss
from fusednn.losses.binary import BinaryCrossentropy, binary_crossentropy
from fusednn.losses.categorical import (
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from fusednn.losses.elementwise import (
    ElementwiseLoss,
    Hinge,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    SquaredHinge,
    hinge,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_logarithmic_error,
    poisson,
    squared_hinge,
)
from fusednn.losses.focal import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
)
from fusednn.losses.of_function import LossFunctionWrapper
from fusednn.losses.regression import MeanSquaredError, mean_squared_error
from fusednn.losses.rows import (
    CategoricalHinge,
    CosineSimilarity,
    KLDivergence,
    categorical_hinge,
    cosine_similarity,
    kl_divergence,
)
from fusednn.losses.scratch import Scratch

__all__ = [
    "KLD",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "ElementwiseLoss",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "LossFunctionWrapper",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "Scratch",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "deserialize",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "log_cosh",
    "logcosh",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mse",
    "msle",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
]

# The short names of Keras 2, where programs for it look for them.
mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
kld = KLD = kullback_leibler_divergence = kl_divergence
logcosh = log_cosh

_registry: Registry[Loss] = Registry(
    "loss",
    Loss,
    [
        MeanSquaredError,
        BinaryCrossentropy,
        BinaryFocalCrossentropy,
        CategoricalFocalCrossentropy,
        CategoricalCrossentropy,
        SparseCategoricalCrossentropy,
        CategoricalHinge,
        CosineSimilarity,
        Hinge,
        Huber,
        KLDivergence,
        LogCosh,
        MeanAbsoluteError,
        MeanAbsolutePercentageError,
        MeanSquaredLogarithmicError,
        Poisson,
        SquaredHinge,
    ],
    {
        "mse": MeanSquaredError,
        "bce": BinaryCrossentropy,
        "mae": MeanAbsoluteError,
        "mape": MeanAbsolutePercentageError,
        "msle": MeanSquaredLogarithmicError,
        "kld": KLDivergence,
        "kullback_leibler_divergence": KLDivergence,
        "huber_loss": Huber,
        "logcosh": LogCosh,
    },
)

_of_function: dict[Callable[..., Any], type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    binary_crossentropy: BinaryCrossentropy,
    binary_focal_crossentropy: BinaryFocalCrossentropy,
    categorical_focal_crossentropy: CategoricalFocalCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    categorical_hinge: CategoricalHinge,
    cosine_similarity: CosineSimilarity,
    hinge: Hinge,
    huber: Huber,
    kl_divergence: KLDivergence,
    log_cosh: LogCosh,
    mean_absolute_error: MeanAbsoluteError,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    poisson: Poisson,
    squared_hinge: SquaredHinge,
}


def get(identifier: Any) -> Loss:
    """Return a loss.

    Parameters
    ----------
    identifier
        A `Loss` (returned as it is), a class, one of this module's functions, a name
        (``"mean_squared_error"``, ``"mse"``, ``"MeanSquaredError"``, ...), or a dictionary
        ``{"class_name": ..., "config": ...}``; or a function of your own, whose attribute
        `gradient` is its gradient, see `LossFunctionWrapper`. Keras returns a function for the name
        of one; here it is always a `Loss`, which knows its gradient.

    Raises
    ------
    ValueError
        It is none of these.
    """
    for function, cls in _of_function.items():
        if identifier is function:
            return cls()
    if callable(identifier) and not isinstance(identifier, (Loss, type)):
        return LossFunctionWrapper(identifier)
    return _registry.get(identifier)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Loss:
    """As `get`, which also finds classes and functions of your own by name in `custom_objects`."""
    return get(custom(name, custom_objects))
