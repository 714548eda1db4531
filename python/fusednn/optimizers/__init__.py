"""Optimizers with Keras' names, defaults and semantics; one kernel call updates a whole list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn._serialization import Registry, custom, serialize
from fusednn.optimizers import schedules
from fusednn.optimizers.adagrad import Adagrad
from fusednn.optimizers.adam import Adam, AdamW
from fusednn.optimizers.adamax import Adamax
from fusednn.optimizers.base import Optimizer
from fusednn.optimizers.nadam import Nadam
from fusednn.optimizers.rmsprop import RMSprop
from fusednn.optimizers.sgd import SGD

RMSProp = RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "Optimizer",
    "RMSProp",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]

_registry: Registry[Optimizer] = Registry(
    "optimizer", Optimizer, [SGD, Adagrad, RMSprop, Adam, AdamW, Adamax, Nadam]
)


def get(identifier: Any) -> Optimizer:
    """Return an optimizer.

    Parameters
    ----------
    identifier
        An optimizer (returned as it is), a class, a name (upper and lower case alike), or a
        dictionary ``{"class_name": ..., "config": ...}``.

    Raises
    ------
    ValueError
        It is none of these.
    """
    return _registry.get(identifier)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
    """As `get`, which also finds classes and functions of your own by name in `custom_objects`."""
    return get(custom(config, custom_objects))
