"""Layers, optimizers and losses as Keras writes them down, and back.

Only classes of this package are made from a file, or those that the caller names: nothing in a
file is executed, and a class of another package is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from fusednn import layers as layers_module
from fusednn._serialization import Configurable
from fusednn.layers import Layer

#: Where Keras keeps the classes of objects in a configuration, by the end of their key.
_MODULES = {
    "initializer": "keras.initializers",
    "regularizer": "keras.regularizers",
    "constraint": "keras.constraints",
    "activation": "keras.activations",
    "learning_rate": "keras.optimizers.schedules",
}

#: Beside a layer's configuration, where Keras does not look: inside, it would refuse the layer.
_MULTIPLIER = "learning_rate_multiplier"

#: Layers of this package that Keras does not have.
_OWN = (layers_module.DenseTranspose,)

#: What Keras has and this package does not: accepted where it is off.
_OFF: tuple[Any, ...] = (None, False, [], {}, 0, "infer")

#: What has no effect where other options are off, or none on results.
_WITHOUT_EFFECT = {"autocast", "fused", "lora_alpha", "renorm_clipping", "renorm_momentum"}


def entry(module: str, class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as Keras 3 writes it."""
    return {
        "module": module,
        "class_name": class_name,
        "config": {key: _with_module(key, value) for key, value in config.items()},
        "registered_name": None,
    }


def _with_module(key: str, value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"class_name", "config"}:
        module = next((m for end, m in _MODULES.items() if key.endswith(end)), "keras")
        return entry(module, value["class_name"], value["config"])
    return list(value) if isinstance(value, tuple) else value


def layer_entry(layer: Layer) -> dict[str, Any]:
    """Return a layer as Keras 3 writes it; one of the user with its own module and name."""
    cls = type(layer)
    if getattr(layers_module, cls.__name__, None) is cls and cls not in _OWN:
        written = entry("keras.layers", cls.__name__, layer.get_config())
    else:
        written = entry(cls.__module__, cls.__name__, layer.get_config())
        written["registered_name"] = cls.__name__
    if layer.learning_rate_multiplier != 1:
        written[_MULTIPLIER] = layer.learning_rate_multiplier
    return written


def without_modules(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer's entry as Keras 2 writes it."""
    kept = ("class_name", "config", _MULTIPLIER)
    return {key: written[key] for key in kept if key in written}


def object_entry(kind: str, made: Configurable) -> str | dict[str, Any]:
    """Return a loss or metric as Keras 3 writes it; of a loss its name, if that says everything."""
    cls = type(made)
    config = made.get_config()
    if kind == "losses" and config == cls().get_config():
        return cls.__name__
    return entry(f"keras.{kind}", cls.__name__, config)


def layer_from(written: Any, custom_objects: Mapping[str, type[Layer]]) -> Layer:
    """Make an unbuilt layer from its entry in a file, of Keras 2 or 3.

    Raises
    ------
    ValueError
        The class is none of this package's and not in `custom_objects`, or an option is set that
        this package does not have.
    """
    if not isinstance(written, Mapping) or not isinstance(written.get("config"), Mapping):
        raise ValueError(f"A layer in the file has no configuration. Received: {written!r:.200}")
    name = str(written.get("class_name"))
    module = str(written.get("module") or "keras.layers")
    cls = custom_objects.get(name)
    if cls is None and module.split(".")[0] in ("fusednn", "keras", "tensorflow", "tf_keras"):
        found = getattr(layers_module, name, None) if name in layers_module.__all__ else None
        cls = found if isinstance(found, type) else None
    if cls is None:
        raise ValueError(
            f"The file has a layer of the class {module}.{name}, which fusednn does not have: give "
            f"it in `custom_objects`, or build the model in code and load its weights."
        )
    config = modern(dict(written["config"]))
    if name == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    layer = cls.from_config(_known(cls, name, config))
    layer.learning_rate_multiplier = written.get(_MULTIPLIER, 1.0)
    return layer


def _known(cls: type[Layer], name: str, config: dict[str, Any]) -> dict[str, Any]:
    accepted: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            accepted |= set(inspect.signature(vars(base)["__init__"]).parameters)
    unknown = {k: v for k, v in config.items() if k not in accepted | _WITHOUT_EFFECT}
    for key, value in unknown.items():
        if value not in _OFF:
            raise ValueError(
                f"`{key}` of layer '{config.get('name')}' ({name}) must be off: fusednn does not "
                f"have it. Received: {key}={value!r:.200}"
            )
    return {k: v for k, v in config.items() if k in accepted}


def modern(config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's configuration with Keras 3's spellings, and types as plain names."""
    dtype = config.get("dtype")
    if isinstance(dtype, Mapping):
        inner = dtype.get("config")
        config["dtype"] = inner.get("name") if isinstance(inner, Mapping) else None
    shape = config.pop("batch_input_shape", None)
    if shape is not None:
        config["batch_shape"] = shape
    if "alpha" in config and "negative_slope" not in config and "alpha_initializer" not in config:
        alpha = config["alpha"]
        if isinstance(alpha, Mapping):  # a NumPy number of Keras 2
            alpha = alpha.get("config", {}).get("value", alpha)
        config["alpha"] = alpha
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1 and "momentum" in config:
        config["axis"] = axis[0]
    return {key: _plain(value) for key, value in config.items()}


def _plain(value: Any) -> Any:
    """Take the module and the registered name out of an entry."""
    if isinstance(value, Mapping) and "class_name" in value and "config" in value:
        inner = value["config"]
        if isinstance(inner, str):  # a function: its name
            return inner
        inner = {k: _plain(v) for k, v in dict(inner).items()}
        return {"class_name": value["class_name"], "config": inner}
    return value


def object_from(written: Any) -> Any:
    """Return the entry of an optimizer, loss or metric in the form that `get` takes."""
    return _plain(written)
