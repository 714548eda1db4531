"""Models as files that Keras reads and writes: `.keras`, `.h5`, and weights alone."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusednn.layers.element_limit import limited_elements
from fusednn.saving import legacy_file, weights_file
from fusednn.saving.arrays_in_hdf5 import child, new_file, read_texts, stored_elements
from fusednn.saving.atomic import replacing
from fusednn.saving.mismatches import Mismatches
from fusednn.saving.model_config import (
    compile_config,
    compile_from_config,
    model_config,
    model_from_config,
    parsed_json,
)
from fusednn.saving.model_weights import assign
from fusednn.saving.opened import (
    PathLike,
    archive_entry,
    file_to_read,
    file_to_write,
    is_archive,
    reading,
)

if TYPE_CHECKING:
    from fusednn.models import Sequential

#: Largest description of a model that is read, in bytes.
_LARGEST_CONFIG = 64 * 2**20
_VERSION = "3.0.0"  # the format that every Keras 3 reads


def save_model(
    model: Sequential,
    filepath: PathLike,
    overwrite: bool = True,
    zipped: bool | None = None,
    include_optimizer: bool = True,
) -> None:
    """Write a model to one file: architecture, weights, and what it is compiled for.

    Parameters
    ----------
    model : Sequential
        Built.
    filepath : path-like
        Ends with ``.keras`` (Keras 3's format) or ``.h5`` (Keras 2's).
    overwrite : bool
        Whether a file that is there may be replaced. It stays whole until the new one is.
    zipped : bool, optional
        Whether a ``.keras`` file is an archive, which it is here; False, Keras' folder, is refused.
    include_optimizer : bool
        Whether to write optimizer, loss and metrics, and the optimizer's state.

    Raises
    ------
    ValueError
        The model is not built, the name ends otherwise, or `zipped` is False.
    FileExistsError
        The file is there and `overwrite` is False.
    ImportError
        h5py is not installed.

    Notes
    -----
    Keras 3 reads both kinds of files, and goes on with the optimizer's state in ``.keras`` (Keras
    3.0 not with Nadam's, and it has no layers as activations). Of ``.h5`` Keras 3, to 3.15 at
    least, restores no optimizer's state, of its own files neither: it builds the optimizer for no
    variables, so that training fails. The state lies under another name here; the model
    trains on with new states, or with those in the file after ::

        model = keras.models.load_model("model.h5")
        model.optimizer.build(model.trainable_variables)
        with h5py.File("model.h5") as file:
            state = file["fusednn_optimizer_weights"]
            names = state.attrs["weight_names"]
            model.optimizer.set_weights([state[name][()] for name in names])

    Keras 2's `decay` is in the file as the schedule `InverseTimeDecay`, with which Keras goes on
    alike. Keras has no `OneCycle`: there the learning rate stays that of the next step.

    Keras 2.15 reads ``.h5``, with new states, too; it makes its older optimizers of such files, in
    which weight decay, averages and `AdamW` are not: open those with ``compile=False`` there. What
    it does not have it refuses, and ``.keras`` files that Keras 3 reads.
    """
    if zipped is not None and not zipped:
        raise ValueError(
            f"`zipped` must be True or None: folders are not written. Received: zipped={zipped!r}"
        )
    target = file_to_write(filepath, (".keras", ".h5"), overwrite)
    model._check_built()
    config = model_config(model)
    # Keras 2 takes "accuracy" of a file for that of labels that are vectors.
    compiled = compile_config(model, target.suffix == ".h5") if include_optimizer else None
    with replacing(target) as temporary:
        if target.suffix == ".h5":
            with new_file(temporary) as file:
                legacy_file.write_model(file, model, config, compiled)
            return
        buffer = io.BytesIO()
        with new_file(buffer) as file:
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
    filepath: PathLike,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Sequential:
    """Read a `Sequential` from a ``.keras`` or ``.h5`` file of this package or of Keras 2 or 3.

    Training goes on with the optimizer's state, also with those that Keras 2's older optimizers
    (``tf.keras.optimizers.legacy``) wrote to ``.h5`` files, and Keras 2.15 to ``.keras`` files.

    Parameters
    ----------
    filepath : path-like
    custom_objects : dict by name, optional
        Classes and functions of your own that the file has: layers, losses, metrics, ...
    compile : bool
        Whether to compile the model as it was, and to go on with the optimizer's state.
    safe_mode : bool
        Taken for Keras' sake and without effect: code in a file (Keras' `Lambda`) is never run,
        with False neither.

    Raises
    ------
    ValueError
        The file is damaged, holds another kind of model or a layer or an option that this package
        does not have, or arrays that do not fit. Nothing in a file is executed; arrays that a model
        claims to need, but that the file does not hold, are not allocated.
    FileNotFoundError, ImportError
        There is no such file, or h5py is not installed.
    """
    source = file_to_read(filepath)
    with reading(source):
        if is_archive(source):
            return _load_archive(source, custom_objects, compile)
        with weights_file.open_bytes(source) as file:
            if "model_config" not in file.attrs or "model_weights" not in file:
                raise ValueError("it holds no model: weights alone are for `load_weights`.")
            return _load_hdf5(file, custom_objects, compile)


def _load_hdf5(file: Any, custom_objects: Mapping[str, Any] | None, compiled: bool) -> Sequential:
    texts = read_texts(file, ("model_config", "training_config"))
    written = parsed_json(texts["model_config"], "model_config in the file")
    group = child(file, "model_weights")
    with limited_elements(stored_elements(group)):
        model = model_from_config(written, custom_objects)
    model._check_built()
    assign(model, legacy_file.read_weights(group, model.layers, Mismatches()))
    if compiled and "training_config" in texts:
        training = parsed_json(texts["training_config"], "training_config in the file")
        if isinstance(training, dict) and "optimizer_config" in training:
            training["optimizer"] = training.pop("optimizer_config")
        optimizer = compile_from_config(model, training, custom_objects)
        if optimizer is not None:
            legacy_file.read_optimizer(file, model, optimizer)
    return model


def _load_archive(
    source: Path, custom_objects: Mapping[str, Any] | None, compiled: bool
) -> Sequential:
    with zipfile.ZipFile(source) as archive:
        written = parsed_json(
            archive_entry(archive, "config.json", _LARGEST_CONFIG), "config.json in the file"
        )
        weights = archive_entry(archive, "model.weights.h5", None)
    with weights_file.open_bytes(io.BytesIO(weights)) as file:
        with limited_elements(stored_elements(file)):
            model = model_from_config(written, custom_objects)
        model._check_built()
        assign(model, weights_file.read_weights(file, model.layers, Mismatches()))
        if compiled:
            optimizer = compile_from_config(model, written.get("compile_config"), custom_objects)
            if optimizer is not None:
                weights_file.read_optimizer(file, model, optimizer)
    return model
