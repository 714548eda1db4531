"""Models and optimizers in the spellings of Keras 2 that Keras 3 reads, too: for `.h5` files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn.saving.keras_config import OPTIONS, without_modules

#: Options by their names in Keras 3, with those that Keras 2 has.
_OLD_NAMES = {
    "InputLayer": {"batch_shape": "batch_input_shape"},
    "LeakyReLU": {"negative_slope": "alpha"},
}


def model_entry(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `model_config` returned as Keras 2 writes it."""
    own = config["config"]
    layers = [
        model_entry(entry) if entry["class_name"] == "Sequential" else _layer_entry(entry)
        for entry in own["layers"]
    ]
    return {
        "class_name": config["class_name"],
        "config": {"name": own["name"], "layers": layers},
    }


def _layer_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    written = without_modules(entry)
    written["config"] = _options(written["class_name"], written["config"])
    return written


def _options(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer's options with old names, in layers among them (activations), too."""
    names = _OLD_NAMES.get(class_name, {})
    return {names.get(key, key): _value(value) for key, value in config.items()}


def _value(value: Any) -> Any:
    if not isinstance(value, Mapping) or value.get("class_name") not in _OLD_NAMES:
        return value
    return {**value, "config": _options(value["class_name"], value["config"])}


def optimizer_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimizer as both write it, as far as both have its options.

    Of two classes of each name Keras 2 makes the older, which has neither decay of weights nor
    averages: an option would lead it to the newer, and Keras 3 refuses that option. What is off is
    left out, therefore.
    """
    config = entry["config"]
    may_be_none = ("weight_decay", "loss_scale_factor", "gradient_accumulation_steps")
    off = {key for key in may_be_none if config.get(key) is None}
    if not config.get("use_ema"):
        off |= {"use_ema", "ema_momentum", "ema_overwrite_frequency"}
    kept = {key: value for key, value in config.items() if key not in off}
    own = {OPTIONS: entry[OPTIONS]} if OPTIONS in entry else {}
    return {"class_name": entry["class_name"], "config": kept} | own
