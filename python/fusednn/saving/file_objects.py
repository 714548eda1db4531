"""The objects that a file describes: made of this package's classes, or of those of the caller.

Nothing in a file is executed. A class or function is only ever found by its name, among those of
this package and in `custom_objects`; what another package has is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from fusednn import layers as layers_module
from fusednn import losses, metrics, optimizers
from fusednn._serialization import constructor_defaults, without_what_is_off
from fusednn.layers import InputLayer, Layer
from fusednn.losses import Loss
from fusednn.metrics import Metric
from fusednn.optimizers import Optimizer
from fusednn.optimizers.options import OWN_OPTIONS
from fusednn.saving.keras_config import MULTIPLIER, OPTIONS, RATE

_T = TypeVar("_T")

#: Packages whose classes are those of this one.
_KERAS = ("builtins", "fusednn", "keras", "tensorflow", "tf_keras")

#: Options of layers that have no effect where others are off, or none on results.
_WITHOUT_EFFECT = ("autocast", "fused", "lora_alpha", "renorm_clipping", "renorm_momentum")

#: Metrics and losses are computed in double precision, or in that of the predictions.
_WIDE = (None, "float32", "float64")


class FileObjects:
    """Makes objects of their entries in a file, of Keras 2 or 3.

    Parameters
    ----------
    custom_objects : mapping by name, optional
        Classes and functions of the caller.
    """

    def __init__(self, custom_objects: Mapping[str, Any] | None = None) -> None:
        self._custom = dict(custom_objects or {})

    def layer(self, written: Any) -> Layer:
        """Make an unbuilt layer.

        Raises
        ------
        ValueError
            The class is none of this package's and not in `custom_objects`, or an option is set
            that this package does not have.
        """
        if not isinstance(written, Mapping) or not isinstance(written.get("config"), Mapping):
            raise ValueError(
                f"A layer in the file has no configuration. Received: {written!r:.200}"
            )
        name = str(written.get("class_name"))
        cls = self._custom_of(written)
        if cls is None and _is_of_keras(written) and name in layers_module.__all__:
            cls = getattr(layers_module, name)
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise ValueError(
                f"The file has a layer of the class {written.get('module') or 'keras.layers'}."
                f"{name}, which fusednn does not have: give it in `custom_objects`, or build the "
                "model in code and load its weights."
            )
        config = self.modern(name, written["config"])
        owner = f"layer '{config.get('name')}' ({name})"
        dtype = config.get("dtype")
        if not issubclass(cls, InputLayer) and dtype not in _WIDE:
            raise ValueError(
                f"`dtype` of {owner} must be float32 or float64: mixed precision is not supported. "
                f"Received: dtype={dtype!r}"
            )
        known = without_what_is_off(config, constructor_defaults(cls), _WITHOUT_EFFECT, owner)
        layer = cls.from_config(known)
        layer.learning_rate_multiplier = written.get(MULTIPLIER, 1.0)
        return layer

    def modern(self, class_name: str, written: Mapping[str, Any]) -> dict[str, Any]:
        """Return a layer's configuration with Keras 3's spellings and with made objects."""
        config = {key: self._option(key, value) for key, value in written.items()}
        config["dtype"] = plain_dtype(written.get("dtype"))
        shape = config.pop("batch_input_shape", None)
        if shape is not None:
            config["batch_shape" if class_name == "InputLayer" else "input_shape"] = (
                shape if class_name == "InputLayer" else shape[1:]
            )
        if class_name == "LeakyReLU" and "alpha" in config:
            config["negative_slope"] = config.pop("alpha")
        axis = config.get("axis")
        if class_name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
            config["axis"] = axis[0]
        return config

    def optimizer(self, written: Any) -> Optimizer:
        """Make an optimizer without states."""
        if isinstance(written, Mapping) and isinstance(own := written.get(OPTIONS), Mapping):
            options = {name: own[name] for name in (*OWN_OPTIONS, *RATE) if name in own}
            written = {**written, "config": {**written.get("config", {}), **options}}
        return self._made(optimizers.get, written)

    def loss(self, written: Any) -> Loss:
        """Make a loss."""
        return self._made(losses.get, written)

    def metrics(self, written: Any) -> list[str | Metric]:
        """Make the metrics of a list, in which lists and dictionaries by output may lie."""
        if isinstance(written, Mapping) and "class_name" not in written:
            written = list(written.values())
        if isinstance(written, list):
            return [metric for item in written for metric in self.metrics(item)]
        if written is None:
            return []
        if isinstance(written, str) and written not in self._custom:
            return [written]
        if isinstance(written, Mapping) and written.get("class_name") == "MeanMetricWrapper":
            return [self._mean_of_function(written)]
        return [self._made(metrics.get, written)]

    def _mean_of_function(self, written: Mapping[str, Any]) -> str | Metric:
        """Return what Keras 2 writes a metric as that was given by its name."""
        config = self._value(written)["config"]
        if config.get("name") in ("accuracy", "acc"):
            return str(config["name"])
        metric = metrics.get(config.get("fn"))
        metric.name = str(config.get("name") or metric.name)
        return metric

    def _made(self, get: Callable[[Any], _T], written: Any) -> _T:
        found = self._value(written)
        if isinstance(found, str):
            found = self._custom.get(found, found)
        try:
            return get(found)
        except ValueError as error:
            if not isinstance(found, str):
                raise
            raise ValueError(f"{error} (give classes of your own in `custom_objects`)") from None

    def _option(self, key: str, written: Any) -> Any:
        """Return the value of a layer's option; an activation may be a layer."""
        named = key.endswith(("activation", "initializer", "regularizer", "constraint"))
        if named and isinstance(written, str):
            return self._custom.get(written, written)
        if (
            key.endswith("activation")
            and isinstance(written, Mapping)
            and written.get("class_name") in layers_module.__all__
            and self._custom_of(written) is None
            and str(written.get("module") or "keras.layers").endswith("layers")
        ):
            return self.layer(written)
        return self._value(written)

    def _custom_of(self, written: Mapping[str, Any]) -> Any:
        for key in ("registered_name", "class_name"):
            name = str(written.get(key))
            found = self._custom.get(name, self._custom.get(name.rpartition(">")[2]))
            if found is not None:
                return found
        return None

    def _value(self, written: Any) -> Any:
        """Return what an entry stands for: an array, a function of the caller, ... or a name."""
        if not isinstance(written, Mapping) or "class_name" not in written:
            return written
        name, config = str(written["class_name"]), written.get("config", {})
        if name == "__tuple__":
            return written.get("items")
        if name in ("__numpy__", "__tensor__") and isinstance(config, Mapping):
            return np.asarray(config.get("value"), config.get("dtype"))
        cls = self._custom_of(written)
        if isinstance(config, str):  # a function: its name
            return self._custom.get(config, config)
        if not isinstance(config, Mapping):
            raise ValueError(f"'{name}' in the file has no configuration. Received: {config!r:.80}")
        if cls is None and not _is_of_keras(written):
            raise ValueError(
                f"The file has an object of the class {written.get('module')}.{name}, which "
                "fusednn does not have: give it in `custom_objects`."
            )
        made = {key: self._option(key, value) for key, value in config.items()}
        if "dtype" in made and not issubclass(cls or object, Layer):
            dtype = plain_dtype(made.pop("dtype"))
            if dtype not in _WIDE:
                raise ValueError(
                    f"`dtype` of '{made.get('name')}' ({name}) must be float32 or float64. "
                    f"Received: dtype={dtype!r}"
                )
        if cls is not None:
            return cls.from_config(made) if hasattr(cls, "from_config") else cls(**made)
        # Keras 2 has the prefix for one of its two families of optimizers.
        return {"class_name": name.removeprefix("Custom>"), "config": made}


def _is_of_keras(written: Mapping[str, Any]) -> bool:
    return str(written.get("module") or "keras").split(".")[0] in _KERAS


def plain_dtype(written: Any) -> Any:
    """Return the name of a dtype, which Keras 3 writes as a policy; what has none, as it is."""
    if not isinstance(written, Mapping):
        return written
    config = written.get("config")
    single = written.get("class_name") in ("DTypePolicy", "FloatDTypePolicy", "Policy")
    return config.get("name") if single and isinstance(config, Mapping) else dict(written)
