"""The arguments of `Layer.add_weight`, in the order of Keras 3 or of Keras 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_KERAS_3 = (
    "shape",
    "initializer",
    "dtype",
    "trainable",
    "autocast",
    "regularizer",
    "constraint",
    "aggregation",
    "layout",
    "name",
)
_KERAS_2 = ("name", "shape", "dtype", "initializer", "regularizer", "trainable", "constraint")
_SHORT = ("name", "shape", "initializer")

#: Keras' options of layers with kernels that do not exist here, and what to do.
ABSENT_OF_KERNELS = {
    "lora_rank": "freeze layers, or give them a `learning_rate_multiplier`",
    "quantization_config": "kernels are float32 or float64",
}


class WeightArguments(NamedTuple):
    """What `Layer.add_weight` was given, with defaults."""

    name: str
    shape: tuple[int | None, ...]
    initializer: Any
    dtype: Any
    trainable: bool
    regularizer: Any
    constraint: Any


def weight_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> WeightArguments:
    """Return the arguments by name, whose order the first one tells: a shape, or a name.

    Raises
    ------
    TypeError
        There are too many, an argument is given twice or unknown, or the shape is none.
    """
    order: tuple[str, ...] = _KERAS_3
    if args and (args[0] is None or isinstance(args[0], str)):
        order = _KERAS_2 if len(args) < 3 or _is_dtype(args[2]) else _SHORT
    if len(args) > len(order):
        raise TypeError(
            f"`add_weight` takes {len(order)} arguments by position, {', '.join(order)}. "
            f"Received: {len(args)}"
        )
    given = dict(zip(order, args, strict=False))
    for name in kwargs:
        if name in given:
            raise TypeError(f"`add_weight` got two values for its argument `{name}`.")
        if name not in _KERAS_3:
            raise TypeError(f"`add_weight` has no argument `{name}`.")
    given |= kwargs
    shape = given.get("shape")
    shape = () if shape is None else (shape,) if isinstance(shape, (int, np.integer)) else shape
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"`shape` must be a tuple of integers. Received: shape={shape!r}")
    initializer, trainable = given.get("initializer"), given.get("trainable")
    return WeightArguments(
        name=str(given.get("name") or "variable"),
        shape=tuple(shape),
        initializer="glorot_uniform" if initializer is None else initializer,
        dtype=given.get("dtype"),
        trainable=True if trainable is None else bool(trainable),
        regularizer=given.get("regularizer"),
        constraint=given.get("constraint"),
    )


def _is_dtype(value: Any) -> bool:
    if value is None or isinstance(value, np.dtype):
        return True
    try:
        return np.dtype(value).kind in "biuf"
    except TypeError:
        return False
