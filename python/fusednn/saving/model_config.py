"""A model's architecture, and what it is compiled for, as Keras writes them, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusednn import metrics as metrics_module
from fusednn.layers import Layer
from fusednn.models.nesting import leaves_of
from fusednn.saving.file_objects import FileObjects
from fusednn.saving.keras_config import entry, layer_entry, object_entry
from fusednn.saving.opened import reading

if TYPE_CHECKING:
    from fusednn.models import Sequential
    from fusednn.optimizers import Optimizer


def model_config(model: Sequential) -> dict[str, Any]:
    """Return a model's architecture as Keras 3 writes it."""
    layers = [
        layer_entry(layer) if isinstance(layer, Layer) else model_config(layer)
        for layer in model.layers
    ]
    config: dict[str, Any] = {"name": model.name, "trainable": True, "layers": layers}
    whole: dict[str, Any] = {
        "module": "keras",
        "class_name": "Sequential",
        "config": config,
        "registered_name": None,
    }
    if model.has_own_call():
        cls = type(model)
        whole |= {"module": cls.__module__, "class_name": cls.__name__}
        whole["registered_name"] = cls.__name__
    if model.built:
        shape = list(model.input_shape)
        given = {"batch_shape": shape, "dtype": model.dtype.name, "name": "input_layer"}
        layers.insert(0, entry("keras.layers", "InputLayer", given))
        config["build_input_shape"] = shape
        whole["build_config"] = {"input_shape": shape}
    return whole


def model_from_config(
    written: Any,
    custom_objects: Mapping[str, Any] | None = None,
    before: Sequence[Layer] = (),
) -> Sequential:
    """Make a model with new weights from what `model_config` returned, or a file of Keras has.

    `before` are the layers that come before it, where it is a layer of another model.

    Raises
    ------
    ValueError
        It is no `Sequential`, or a layer cannot be made.
    """
    from fusednn.models import Sequential

    kind = written.get("class_name") if isinstance(written, Mapping) else written
    cls: Any = Sequential
    if not isinstance(written, Mapping) or kind != "Sequential":
        cls = (custom_objects or {}).get(str(kind))
        found = isinstance(cls, type) and issubclass(cls, Sequential)
        if not (found and isinstance(written, Mapping)):
            raise ValueError(
                "The file must hold a Sequential model, or a subclass that is in `custom_objects`. "
                f"Received: {kind!r:.200}"
            )
    config = written.get("config")
    entries = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(entries, list):
        raise ValueError("The file has no list of layers.")
    objects = FileObjects(custom_objects)
    leaves = list(before)
    made: list[Layer | Sequential] = []
    for item in entries:
        if isinstance(item, Mapping) and item.get("class_name") == "Sequential":
            made.append(model_from_config(item, custom_objects, leaves))
        else:
            layer = objects.layer(item)
            layer.connect(leaves)
            made.append(layer)
        leaves += leaves_of(made[-1:])
    name = config.get("name") if isinstance(config, Mapping) else None
    model: Sequential = cls(made, name=name if isinstance(name, str) else None)
    shape = config.get("build_input_shape") if isinstance(config, Mapping) else None
    if isinstance(shape, list) and not model.built:
        model.build(shape)
    return model


def model_from_json(
    json_string: str, custom_objects: Mapping[str, Any] | None = None
) -> Sequential:
    """Make a model with new weights from what `Sequential.to_json`, or Keras', returned.

    `custom_objects` are layers, activations and so on of your own, by name.

    Raises
    ------
    ValueError
        It describes no `Sequential`, or a layer or an option that this package does not have.
    """
    with reading("`json_string`"):
        return model_from_config(parsed_json(json_string, "it"), custom_objects)


def compile_config(model: Sequential, resolved: bool = False) -> dict[str, Any] | None:
    """Return what a model is compiled for; None where it is not.

    With `resolved`, "accuracy" is the metric that it stands for, as soon as that is known.
    """
    if not model.compiled:
        return None
    objective = model._compiled()
    assert model.optimizer is not None
    metrics, weighted = (
        [m if isinstance(m, str) else object_entry("metrics", metrics_module.get(m)) for m in given]
        for given in objective.described(resolved)
    )
    return {
        "optimizer": object_entry("optimizers", model.optimizer),
        "loss": object_entry("losses", objective.loss),
        "loss_weights": None if objective.factor == 1 else objective.factor,
        "metrics": metrics,
        "weighted_metrics": weighted or None,
        "run_eagerly": False,
        "steps_per_execution": model.steps_per_execution,
        "jit_compile": False,
    }


def compile_from_config(
    model: Sequential, written: Any, custom_objects: Mapping[str, Any] | None
) -> Optimizer | None:
    """Compile a model as it was; None where the file says nothing of it."""
    if not isinstance(written, Mapping) or not written.get("optimizer"):
        return None
    objects = FileObjects(custom_objects)
    optimizer = objects.optimizer(written["optimizer"])
    loss = written.get("loss")
    while isinstance(loss, (list, Mapping)) and len(loss) == 1:  # of the one output
        loss = next(iter(loss.values() if isinstance(loss, Mapping) else loss))
    model.compile(
        optimizer,
        objects.loss(loss),
        written.get("loss_weights"),
        metrics=objects.metrics(written.get("metrics")),
        weighted_metrics=objects.metrics(written.get("weighted_metrics")),
        steps_per_execution=written.get("steps_per_execution") or 1,
    )
    return optimizer


def parsed_json(text: Any, name: str) -> Any:
    """Return what a JSON text holds; ValueError with `name` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
