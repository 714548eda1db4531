"""Weights alone, written to and read from files of several formats."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Any

from fusednn.saving import legacy_file, safetensors_file, weights_file
from fusednn.saving.arrays_in_hdf5 import Array, MismatchError, child, new_file
from fusednn.saving.atomic import replacing
from fusednn.saving.automatic_names import automatic_names, without_numbers
from fusednn.saving.mismatches import Mismatches
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


def save_weights(
    model: Sequential,
    filepath: PathLike,
    overwrite: bool = True,
    max_shard_size: float | None = None,
) -> None:
    """Write the weights alone.

    Parameters
    ----------
    model : Sequential
        Built.
    filepath : path-like
        Ends with ``.weights.h5`` (Keras 3's layout), ``.h5`` (Keras 2's, by layers' names) or
        ``.safetensors`` (arrays by the paths of variables, ``dense/kernel``; needs no h5py).
    overwrite : bool
        As of `save_model`, whose errors these are, too.
    max_shard_size : None
        Keras' size of each of several files; weights are in one file here, and numbers are refused.
    """
    if max_shard_size is not None:
        raise ValueError(
            "`max_shard_size` must be None: weights are written to one file. "
            f"Received: max_shard_size={max_shard_size!r}"
        )
    target = file_to_write(filepath, (".h5", ".safetensors"), overwrite)
    model._check_built()
    if target.suffix == ".safetensors":
        safetensors_file.write_arrays(
            target, {path: v.numpy() for path, v in model._named_weights()}
        )
        return
    with replacing(target) as temporary, new_file(temporary) as file:
        if target.name.endswith(".weights.h5"):
            weights_file.write_weights(file, model, None)
        else:
            legacy_file.write_weights(file, model)


def load_weights(
    model: Sequential,
    filepath: PathLike,
    skip_mismatch: bool = False,
    by_name: bool = False,
) -> None:
    """Read weights from a file of `save_weights`, of Keras, or of a whole model: all or none.

    Parameters
    ----------
    model : Sequential
        Built.
    filepath : path-like
        Arrays in ``.safetensors`` are found by the layers' names; automatic ones (`dense_2`) may
        have other numbers, as they have in a model that is made once more.
    skip_mismatch : bool
        Whether layers for which the file holds arrays of other shapes, more or fewer of them, or
        none keep their weights, and a warning names them. Otherwise that is an error.
    by_name : bool
        Whether layers are found by their names, and those that the file does not have keep their
        weights. Of Keras 2's layout (``.h5``) alone, as in Keras; otherwise layers are in order.

    Raises
    ------
    ValueError
        The file is damaged, or does not hold the arrays of this model, or `by_name` with another
        layout.
    FileNotFoundError, ImportError
        There is no such file, or h5py is not installed.
    """
    source = file_to_read(filepath)
    model._check_built()
    mismatches = Mismatches(skip_mismatch)
    with reading(source):
        data: Any = source
        if source.suffix == ".safetensors":
            _refuse_names(by_name)
            arrays = _by_path(model, safetensors_file.read_arrays(source), mismatches)
            assign(model, arrays)
        else:
            if is_archive(source):
                with zipfile.ZipFile(source) as archive:
                    data = io.BytesIO(archive_entry(archive, "model.weights.h5", None))
            with weights_file.open_bytes(data) as file:
                group = child(file, "model_weights") if "model_weights" in file else file
                if any(name.startswith("layer_names") for name in group.attrs):
                    read = legacy_file.read_weights(group, model.layers, mismatches, by_name)
                else:
                    _refuse_names(by_name)
                    read = weights_file.read_weights(group, model.layers, mismatches)
                assign(model, read)
    if mismatches.found:
        warnings.warn(
            f"{source} does not fit all layers; these keep their weights: "
            f"{'; '.join(mismatches.found[:5])}",
            stacklevel=3,
        )


def assign(model: Sequential, arrays: Sequence[Array | None]) -> None:
    """Set the weights of a model, in order; those that are None stay."""
    for variable, array in zip(model.weights, arrays, strict=True):
        if array is not None:
            variable.assign(array.astype(variable.dtype))


def _by_path(
    model: Sequential, arrays: dict[str, Array], mismatches: Mismatches
) -> list[Array | None]:
    named = model._named_weights()
    paths = [path for path, _ in named]
    arrays = _renamed(arrays, paths, automatic_names(model.layers))
    if sorted(paths) != sorted(arrays) and not mismatches.skipped:
        missing = sorted(set(paths) - set(arrays)) or sorted(set(arrays) - set(paths))
        raise ValueError(
            "The file must hold the arrays of this model by name. "
            f"Only one of the two has {', '.join(missing[:3])}"
        )
    found: list[Array | None] = []
    layers: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for path, variable in named:
        layers.setdefault(path.rpartition("/")[0], []).append((path, variable.shape))
    for wanted in layers.values():
        found += mismatches.arrays(len(wanted), partial(_checked_arrays, arrays, wanted))
    return found


def _renamed(
    arrays: dict[str, Array], paths: Sequence[str], automatic: Set[str]
) -> dict[str, Array]:
    """Return the file's arrays by the model's paths where only automatic numbers differ.

    The same layers made once more are called `dense_2` and `dense_3` instead of `dense` and
    `dense_1`: those of a class are matched in the order of their numbers.
    """
    in_file, in_model = (without_numbers(names, automatic) for names in (arrays, paths))
    if sorted(in_file.values()) != sorted(in_model.values()):
        return arrays
    path_of = {plain: path for path, plain in in_model.items()}
    return {path_of[plain]: arrays[path] for path, plain in in_file.items()}


def _checked_arrays(
    arrays: dict[str, Array], wanted: list[tuple[str, tuple[int, ...]]]
) -> list[Array]:
    for path, shape in wanted:
        received = arrays[path].shape if path in arrays else None
        if received != shape:
            raise MismatchError(
                f"The file must hold an array of shape {shape} for '{path}'. "
                f"Received: {'none' if received is None else f'shape {received}'}"
            )
    return [arrays[path] for path, _ in wanted]


def _refuse_names(by_name: bool) -> None:
    if by_name:
        raise ValueError(
            "`by_name` needs a file in Keras 2's layout (`.h5`). Received: by_name=True"
        )
