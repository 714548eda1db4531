"""Layers, optimizers, losses and metrics as Keras 3 writes them down; `file_objects` reads them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from fusednn import layers as layers_module
from fusednn import losses as losses_module
from fusednn import metrics as metrics_module
from fusednn import optimizers as optimizers_module
from fusednn._serialization import Configurable, OfFunction, function_name, snake_case
from fusednn.layers import Layer
from fusednn.optimizers import Optimizer, schedules
from fusednn.optimizers.options import OWN_OPTIONS

#: Where Keras keeps the classes of objects in a configuration, by the end of their key.
_MODULES = {
    "initializer": "keras.initializers",
    "regularizer": "keras.regularizers",
    "constraint": "keras.constraints",
    "activation": "keras.activations",
    "learning_rate": "keras.optimizers.schedules",
}

#: Beside a layer's configuration, where Keras does not look: inside, it would refuse the layer.
MULTIPLIER = "learning_rate_multiplier"

#: The options of an optimizer that Keras does not have, likewise beside its configuration.
OPTIONS = "fusednn_options"
#: What else is there where Keras gets another learning rate.
RATE = ("learning_rate", "decay")

#: Layers of this package that Keras does not have.
_NOT_OF_KERAS = (layers_module.DenseTranspose,)

_OWN = {"losses": losses_module, "metrics": metrics_module, "optimizers": optimizers_module}


def entry(module: str, class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as Keras 3 writes it."""
    return {
        "module": module,
        "class_name": class_name,
        "config": {key: _with_module(key, value) for key, value in config.items()},
        "registered_name": None,
    }


def function_entry(name: str) -> dict[str, Any]:
    """Return a function as Keras 3 writes it."""
    return {
        "module": "builtins",
        "class_name": "function",
        "config": name,
        "registered_name": "function",
    }


def _with_module(key: str, value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"class_name", "config"}:
        name, config = value["class_name"], value["config"]
        module = next((m for end, m in _MODULES.items() if key.endswith(end)), "keras")
        if key.endswith("activation") and name in layers_module.__all__:
            # Keras has functions without options, and layers, which it takes for activations, too.
            module = "keras.layers"
        return entry(module, name, config)
    if inspect.isroutine(value):
        return function_entry(function_name(value))
    return list(value) if isinstance(value, tuple) else value


def layer_entry(layer: Layer) -> dict[str, Any]:
    """Return a layer as Keras 3 writes it; one of the user with its own module and name."""
    cls = type(layer)
    if getattr(layers_module, cls.__name__, None) is cls and cls not in _NOT_OF_KERAS:
        written = entry("keras.layers", cls.__name__, layer.get_config())
    else:
        written = _foreign(cls, layer.get_config())
    if layer.learning_rate_multiplier != 1:
        written[MULTIPLIER] = layer.learning_rate_multiplier
    return written


def without_modules(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer's entry as Keras 2 writes it."""
    kept = ("class_name", "config", MULTIPLIER)
    return {key: written[key] for key in kept if key in written}


def object_entry(kind: str, made: Configurable) -> str | dict[str, Any]:
    """Return an optimizer, loss or metric as Keras 3 writes it.

    Options at their defaults are left out, because Keras does not have all of them; a loss without
    options is its name.
    """
    cls = type(made)
    if isinstance(made, OfFunction):
        return function_entry(function_name(made.fn))
    if getattr(_OWN[kind], cls.__name__, None) is not cls:
        return _foreign(cls, made.get_config())
    if isinstance(made, Optimizer):
        config = made.get_config()
        own = {name: config.pop(name) for name in OWN_OPTIONS if name in config}
        instead = rate_for_keras(made)
        if instead is not None:
            own |= {name: config.pop(name) for name in RATE if name in config}
            config["learning_rate"] = instead
        written = entry("keras.optimizers", cls.__name__, config)
        return written | {OPTIONS: own} if own else written
    defaults = cls.option_defaults()
    config = {
        name: value
        for name, value in made.get_config().items()
        if name not in defaults or value != defaults[name]
    }
    if kind == "losses" and config in ({}, {"name": snake_case(cls.__name__)}):
        return snake_case(cls.__name__)  # the names of classes are no names of losses in Keras 3.0
    return entry(f"keras.{kind}", cls.__name__, config)


def rate_for_keras(optimizer: Optimizer) -> Any:
    """Return what a file says of a learning rate that Keras does not have; None for others.

    Keras 3 passes over `decay`, for which it has a schedule, and refuses a class that it does not
    know: of `OneCycle` it gets the rate of the next step.
    """
    config = optimizer.get_config()
    rate, decay = config["learning_rate"], config.get("decay")
    if decay and isinstance(rate, float):
        return schedules.serialize(schedules.InverseTimeDecay(rate, 1, decay))
    if isinstance(rate, Mapping) and rate["class_name"] == schedules.OneCycle.__name__:
        return float(optimizer.learning_rate)
    return None


def _foreign(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    return entry(cls.__module__, cls.__name__, config) | {"registered_name": cls.__name__}
