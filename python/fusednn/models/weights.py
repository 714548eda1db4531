"""Weights of samples, given one by one or by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn import devices
from fusednn._arguments import check_number
from fusednn.models.data import Array, on_host


def weights_of(
    y: Array,
    dtype: np.dtype[Any],
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | None = None,
    name: str = "sample_weight",
) -> Array | None:
    """Return one weight of `dtype` for each sample of `y`, or None where none are given.

    Parameters
    ----------
    y
        Targets. Classes are integers, or the place of the largest number in the last axis.
    dtype
        Type of the weights.
    sample_weight
        One number >= 0 for each sample.
    class_weight
        A number >= 0 by class; 1 for those that are left out, as in Keras.
    name
        What messages call `sample_weight`.

    Raises
    ------
    ValueError, TypeError
        Both are given, or one does not fit.
    """
    if sample_weight is None and class_weight is None:
        return None
    if class_weight is None:
        weights = on_host(devices.as_array(sample_weight))
        if weights.dtype.kind not in "biuf":
            raise TypeError(f"`{name}` must hold numbers. Received: dtype {weights.dtype}")
        if weights.shape not in ((len(y),), (len(y), 1)):
            raise ValueError(
                f"`{name}` must hold one weight for each of {len(y)} samples. "
                f"Received: shape {weights.shape}"
            )
        if weights.size and not (np.isfinite(weights).all() and weights.min() >= 0):
            raise ValueError(f"`{name}` must hold finite numbers >= 0.")
        return np.ascontiguousarray(weights.reshape(-1), dtype)
    if sample_weight is not None:
        raise ValueError("Only one of `sample_weight` and `class_weight` can be given.")
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"`class_weight` must be a dictionary of numbers by class. Received: {class_weight!r}"
        )
    classes = y
    if y.ndim > 1:
        classes = y[..., 0] if y.shape[-1] == 1 else y.argmax(axis=-1)
    if classes.ndim != 1:
        raise ValueError(
            f"`class_weight` needs one class for each sample. Received: targets of shape {y.shape}"
        )
    weights = np.ones(len(y), dtype)
    for label, weight in class_weight.items():
        value = check_number(f"class_weight[{label}]", weight, minimum=0)
        weights[np.rint(classes) == label] = value
    return weights
