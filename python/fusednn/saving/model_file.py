"""Models as files that Keras reads and writes: `.keras`, `.h5`, and weights alone."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusednn import losses, metrics, optimizers
from fusednn.layers import Layer
from fusednn.layers.layer import limited_elements
from fusednn.models.nesting import leaves_of
from fusednn.optimizers import Optimizer
from fusednn.saving import legacy_file, safetensors_file, weights_file
from fusednn.saving.arrays_in_hdf5 import Array, h5py, stored_elements
from fusednn.saving.atomic import replacing
from fusednn.saving.keras_config import (
    entry,
    layer_entry,
    layer_from,
    object_entry,
    object_from,
)

if TYPE_CHECKING:
    from fusednn.models import Sequential

PathLike = str | os.PathLike[str]

#: Largest description of a model that is read, in bytes.
_LARGEST_CONFIG = 64 * 2**20
#: Most that a compressed entry of a `.keras` file may grow by; HDF5 files hardly shrink.
_LARGEST_RATIO = 200
_VERSION = "3.0.0"  # the format that every Keras 3 reads


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
    if model.built:
        shape = list(model.input_shape)
        given = {"batch_shape": shape, "dtype": model.dtype.name, "name": "input_layer"}
        layers.insert(0, entry("keras.layers", "InputLayer", given))
        config["build_input_shape"] = shape
        whole["build_config"] = {"input_shape": shape}
    return whole


def model_from_config(
    written: Any,
    custom_objects: Mapping[str, type[Layer]] | None = None,
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

    if not isinstance(written, Mapping) or written.get("class_name") != "Sequential":
        kind = written.get("class_name") if isinstance(written, Mapping) else written
        raise ValueError(f"The file must hold a Sequential model. Received: {kind!r:.200}")
    config = written.get("config")
    entries = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(entries, list):
        raise ValueError("The file has no list of layers.")
    custom = custom_objects or {}
    leaves = list(before)
    made: list[Layer | Sequential] = []
    for item in entries:
        if isinstance(item, Mapping) and item.get("class_name") == "Sequential":
            made.append(model_from_config(item, custom, leaves))
        else:
            layer = layer_from(item, custom)
            layer.connect(leaves)
            made.append(layer)
        leaves += leaves_of(made[-1:])
    name = config.get("name") if isinstance(config, Mapping) else None
    model = Sequential(made, name=name if isinstance(name, str) else None)
    shape = config.get("build_input_shape") if isinstance(config, Mapping) else None
    if isinstance(shape, list) and not model.built:
        model.build(shape)
    return model


def model_from_json(
    text: str, custom_objects: Mapping[str, type[Layer]] | None = None
) -> Sequential:
    """Make a model with new weights from what `Sequential.to_json`, or Keras', returned."""
    return model_from_config(_json(text, "`text`"), custom_objects)


def _compile_config(model: Sequential) -> dict[str, Any] | None:
    if not model.compiled:
        return None
    objective = model._compiled()
    optimizer = model.optimizer
    assert optimizer is not None
    given = objective.described()
    return {
        "optimizer": entry("keras.optimizers", type(optimizer).__name__, optimizer.get_config()),
        "loss": object_entry("losses", objective.loss),
        "loss_weights": None,
        "metrics": [m if isinstance(m, str) else object_entry("metrics", m) for m in given[0]],
        "weighted_metrics": (
            [m if isinstance(m, str) else object_entry("metrics", m) for m in given[1]] or None
        ),
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": False,
    }


def _compile(model: Sequential, written: Any) -> Optimizer | None:
    """Compile a model as it was; None where the file says nothing of it."""
    if not isinstance(written, Mapping) or not written.get("optimizer"):
        return None
    optimizer = optimizers.get(_known_optimizer(object_from(written["optimizer"])))
    metrics_given, weighted = (
        [m if isinstance(m, str) else metrics.get(m) for m in _flat(written.get(key))]
        for key in ("metrics", "weighted_metrics")
    )
    loss = object_from(written.get("loss"))
    if isinstance(loss, Mapping):
        loss = {"class_name": loss["class_name"], "config": _without(loss["config"], "dtype", "fn")}
    model.compile(optimizer, losses.get(loss), metrics=metrics_given, weighted_metrics=weighted)
    return optimizer


def _known_optimizer(given: Any) -> Any:
    if isinstance(given, Mapping):
        config = _without(given["config"], "jit_compile", "is_legacy_optimizer", "use_locking")
        if config.get("decay") in (0, 0.0):
            config.pop("decay")
        # Keras 2 has the prefix for one of its two families of optimizers.
        return {"class_name": str(given["class_name"]).removeprefix("Custom>"), "config": config}
    return given


def _without(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in names}


def _flat(given: Any) -> list[Any]:
    flat: list[Any] = []
    for item in given or ():
        if isinstance(item, list):
            flat += _flat(item)
        elif isinstance(item, Mapping):
            made = dict(object_from(item))
            made["config"] = _without(made["config"], "dtype", "fn")
            if made["class_name"] != "MeanMetricWrapper":
                flat.append(made)
            else:
                flat.append(made["config"]["name"])
        elif item is not None:
            flat.append(item)
    return flat


def save_model(
    model: Sequential,
    path: PathLike,
    overwrite: bool = True,
    include_optimizer: bool = True,
) -> None:
    """Write a model to one file: architecture, weights, and what it is compiled for.

    Parameters
    ----------
    model : Sequential
        Built.
    path : path-like
        Ends with ``.keras`` (Keras 3's format) or ``.h5`` (Keras 2's, which holds no optimizer's
        state here).
    overwrite : bool
        Whether a file that is there may be replaced. It stays whole until the new one is.
    include_optimizer : bool
        Whether to write optimizer, loss, metrics and, in ``.keras``, the optimizer's state.

    Raises
    ------
    ValueError
        The model is not built, or the name ends otherwise.
    FileExistsError
        The file is there and `overwrite` is False.
    ImportError
        h5py is not installed.

    Notes
    -----
    Keras 3.0 to 3.15 and, of ``.h5``, Keras 2 read these files.
    """
    target = _checked_path(path, (".keras", ".h5"), overwrite)
    model._check_built()
    config = model_config(model)
    compiled = _compile_config(model) if include_optimizer else None
    with replacing(target) as temporary:
        if target.suffix == ".h5":
            with h5py().File(temporary, "w") as file:
                legacy_file.write_model(file, model, config, compiled)
            return
        buffer = io.BytesIO()
        with h5py().File(buffer, "w") as file:
            optimizer = model.optimizer if compiled else None
            weights_file.write_weights(file, model, optimizer)
        if compiled:
            config["compile_config"] = compiled
        saved = {"keras_version": _VERSION, "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr("metadata.json", json.dumps(saved))
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", buffer.getvalue())


def load_model(
    path: PathLike,
    custom_objects: Mapping[str, type[Layer]] | None = None,
    compile: bool = True,
) -> Sequential:
    """Read a `Sequential` from a ``.keras`` or ``.h5`` file of this package or of Keras 2 or 3.

    Parameters
    ----------
    path : path-like
    custom_objects : dict of class by name, optional
        Layers of your own that the file has.
    compile : bool
        Whether to compile the model as it was, and to go on with the optimizer's state.

    Raises
    ------
    ValueError
        The file is damaged, holds another kind of model or a layer or an option that this package
        does not have, or arrays that do not fit. Nothing in a file is executed; arrays that a model
        claims to need, but that the file does not hold, are not allocated.
    FileNotFoundError, ImportError
        There is no such file, or h5py is not installed.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"`path` must be a file. Received: path={source}")
    if zipfile.is_zipfile(source):
        return _load_archive(source, custom_objects, compile)
    with weights_file.open_bytes(source) as file:
        if "model_config" not in file.attrs or "model_weights" not in file:
            raise ValueError(f"{source} holds no model: weights alone are for `load_weights`.")
        written = _json(file.attrs["model_config"], "model_config")
        group = file["model_weights"]
        with limited_elements(stored_elements(group)):
            model = model_from_config(written, custom_objects)
        model._check_built()
        _assign(model, legacy_file.read_weights(group, model.layers))
        if compile and "training_config" in file.attrs:
            _compile(model, _legacy_training(file.attrs["training_config"]))
    return model


def _legacy_training(text: Any) -> dict[str, Any]:
    written = dict(_json(text, "training_config"))
    if "optimizer_config" in written:  # Keras 2
        written["optimizer"] = written.pop("optimizer_config")
    return written


def _load_archive(
    source: Path, custom_objects: Mapping[str, type[Layer]] | None, compiled: bool
) -> Sequential:
    try:
        with zipfile.ZipFile(source) as archive:
            written = _json(_entry(archive, "config.json", _LARGEST_CONFIG), "config.json")
            weights = _entry(archive, "model.weights.h5", None)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{source} is damaged: {error}") from None
    with weights_file.open_bytes(io.BytesIO(weights)) as file:
        with limited_elements(stored_elements(file)):
            model = model_from_config(written, custom_objects)
        model._check_built()
        _assign(model, weights_file.read_weights(file, model.layers))
        if compiled:
            optimizer = _compile(model, written.get("compile_config"))
            if optimizer is not None:
                weights_file.read_optimizer(file, model, optimizer)
    return model


def _entry(archive: zipfile.ZipFile, name: str, largest: int | None) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"The file is no model of Keras: it has no {name}.") from None
    limit = info.compress_size * _LARGEST_RATIO if largest is None else largest
    if info.file_size > limit:
        raise ValueError(
            f"{name} in the file must have at most {limit} bytes. Received: {info.file_size}"
        )
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{name} in the file has another size than it says: it is damaged.")
    return data


def _json(text: Any, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"{name} in the file is no JSON: {error}") from None


def save_weights(model: Sequential, path: PathLike, overwrite: bool = True) -> None:
    """Write the weights alone.

    Parameters
    ----------
    model : Sequential
        Built.
    path : path-like
        Ends with ``.weights.h5`` (Keras 3's layout), ``.h5`` (Keras 2's, by layers' names) or
        ``.safetensors`` (arrays by the paths of variables, ``dense/kernel``; needs no h5py).
    overwrite : bool
        As of `save_model`, whose errors these are, too.
    """
    target = _checked_path(path, (".h5", ".safetensors"), overwrite)
    model._check_built()
    if target.suffix == ".safetensors":
        safetensors_file.write_arrays(
            target, {path: v.numpy() for path, v in model._named_weights()}
        )
        return
    with replacing(target) as temporary, h5py().File(temporary, "w") as file:
        if target.name.endswith(".weights.h5"):
            weights_file.write_weights(file, model, None)
        else:
            legacy_file.write_weights(file, model)


def load_weights(model: Sequential, path: PathLike) -> None:
    """Read weights from a file of `save_weights`, of Keras, or of a whole model: all or none.

    Raises
    ------
    ValueError
        The file is damaged, or does not hold the arrays of this model.
    FileNotFoundError, ImportError
        There is no such file, or h5py is not installed.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"`path` must be a file. Received: path={source}")
    model._check_built()
    data: Any = source
    if source.suffix == ".safetensors":
        _assign_by_path(model, safetensors_file.read_arrays(source))
        return
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            data = io.BytesIO(_entry(archive, "model.weights.h5", None))
    with weights_file.open_bytes(data) as file:
        group = file.get("model_weights", file)
        by_names = any(name.startswith("layer_names") for name in group.attrs)
        read = legacy_file.read_weights if by_names else weights_file.read_weights
        _assign(model, read(group, model.layers))


def _assign(model: Sequential, arrays: list[Array]) -> None:
    for variable, array in zip(model.weights, arrays, strict=True):
        variable.assign(array.astype(variable.dtype))


def _assign_by_path(model: Sequential, arrays: dict[str, Array]) -> None:
    paths = [path for path, _ in model._named_weights()]
    if sorted(paths) != sorted(arrays):
        missing = sorted(set(paths) - set(arrays)) or sorted(set(arrays) - set(paths))
        raise ValueError(
            "The file must hold the arrays of this model by name. "
            f"Only one of the two has {', '.join(missing[:3])}"
        )
    model.set_weights([arrays[path].astype(model.dtype) for path in paths])


def _checked_path(path: PathLike, endings: tuple[str, ...], overwrite: bool) -> Path:
    target = Path(path)
    if target.suffix not in endings:
        raise ValueError(f"`path` must end with {' or '.join(endings)}. Received: path={target}")
    if target.exists() and not overwrite:
        raise FileExistsError(f"`path` exists and `overwrite` is False. Received: path={target}")
    return target


__all__ = [
    "load_model",
    "load_weights",
    "model_config",
    "model_from_config",
    "model_from_json",
    "save_model",
    "save_weights",
]
