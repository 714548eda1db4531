"""Learning rates that depend on the number of steps, with Keras' names and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn._serialization import Registry, custom, serialize
from fusednn.optimizers.schedules.base import LearningRateSchedule
from fusednn.optimizers.schedules.cosine import CosineDecay, CosineDecayRestarts
from fusednn.optimizers.schedules.decay import (
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
from fusednn.optimizers.schedules.one_cycle import OneCycle

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]

_registry: Registry[LearningRateSchedule] = Registry(
    "schedule",
    LearningRateSchedule,
    [
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        OneCycle,
        PiecewiseConstantDecay,
        PolynomialDecay,
    ],
)


def deserialize(
    config: Any, custom_objects: Mapping[str, Any] | None = None
) -> LearningRateSchedule:
    """Return the schedule of what `serialize` returned, ``{"class_name": ..., "config": ...}``.

    Classes of your own are found by name in `custom_objects`.

    Raises
    ------
    ValueError
        It is no such dictionary, or the class is unknown.
    """
    return _registry.get(custom(config, custom_objects))
