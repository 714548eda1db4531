"""Models as files that Keras reads and writes: `.keras`, `.h5`, and weights alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusednn.layers.layer import limited_elements
from fusednn.saving import legacy_file, safetensors_file, weights_file
from fusednn.saving.arrays_in_hdf5 import Array, child, h5py, stored_elements
from fusednn.saving.atomic import replacing
from fusednn.saving.model_config import (
    compile_config,
    compile_from_config,
    model_config,
    model_from_config,
    parsed_json,
)

if TYPE_CHECKING:
    from fusednn.models import Sequential

PathLike = str | os.PathLike[str]

#: Largest description of a model that is read, in bytes.
_LARGEST_CONFIG = 64 * 2**20
#: Most that a compressed entry of a `.keras` file may grow by; HDF5 files hardly shrink.
_LARGEST_RATIO = 200
#: What readers of JSON, archives and HDF5, and constructors, raise on what they do not expect.
_OF_CONTENT = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    zlib.error,
)
_VERSION = "3.0.0"  # the format that every Keras 3 reads


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
        Ends with ``.keras`` (Keras 3's format) or ``.h5`` (Keras 2's).
    overwrite : bool
        Whether a file that is there may be replaced. It stays whole until the new one is.
    include_optimizer : bool
        Whether to write optimizer, loss and metrics, and the optimizer's state.

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
    compiled = compile_config(model) if include_optimizer else None
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
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
) -> Sequential:
    """Read a `Sequential` from a ``.keras`` or ``.h5`` file of this package or of Keras 2 or 3.

    Parameters
    ----------
    path : path-like
    custom_objects : dict by name, optional
        Classes and functions of your own that the file has: layers, losses, metrics, ...
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
    with _reading(source):
        if zipfile.is_zipfile(source):
            return _load_archive(source, custom_objects, compile)
        with weights_file.open_bytes(source) as file:
            if "model_config" not in file.attrs or "model_weights" not in file:
                raise ValueError("it holds no model: weights alone are for `load_weights`.")
            return _load_hdf5(file, custom_objects, compile)


def _load_hdf5(file: Any, custom_objects: Mapping[str, Any] | None, compiled: bool) -> Sequential:
    written = parsed_json(file.attrs["model_config"], "model_config")
    group = child(file, "model_weights")
    with limited_elements(stored_elements(group)):
        model = model_from_config(written, custom_objects)
    model._check_built()
    _assign(model, legacy_file.read_weights(group, model.layers))
    if compiled and "training_config" in file.attrs:
        training = parsed_json(file.attrs["training_config"], "training_config")
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
        written = parsed_json(_entry(archive, "config.json", _LARGEST_CONFIG), "config.json")
        weights = _entry(archive, "model.weights.h5", None)
    with weights_file.open_bytes(io.BytesIO(weights)) as file:
        with limited_elements(stored_elements(file)):
            model = model_from_config(written, custom_objects)
        model._check_built()
        _assign(model, weights_file.read_weights(file, model.layers))
        if compiled:
            optimizer = compile_from_config(model, written.get("compile_config"), custom_objects)
            if optimizer is not None:
                weights_file.read_optimizer(file, model, optimizer)
    return model


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make one kind of error, which names the file, of all that its content causes."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except _OF_CONTENT as error:
        raise ValueError(
            f"{path} cannot be read, it is damaged or of another kind: "
            f"{type(error).__name__}: {error}"
        ) from error


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
    with _reading(source):
        data: Any = source
        if source.suffix == ".safetensors":
            _assign_by_path(model, safetensors_file.read_arrays(source))
            return
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                data = io.BytesIO(_entry(archive, "model.weights.h5", None))
        with weights_file.open_bytes(data) as file:
            group = child(file, "model_weights") if "model_weights" in file else file
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
