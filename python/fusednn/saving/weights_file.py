"""The weights of a model as Keras 3 lays them out in an HDF5 file.

``layers/<class in snake case, numbered>/vars/<number>``, and ``optimizer/vars/<number>``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn._serialization import snake_case
from fusednn.layers import Layer
from fusednn.optimizers import Optimizer
from fusednn.saving.arrays_in_hdf5 import (
    Array,
    MismatchError,
    child,
    h5py,
    read_array,
    write_array,
)
from fusednn.saving.hdf5_heaps import check_heaps
from fusednn.saving.mismatches import Mismatches
from fusednn.saving.optimizer_state import restore_state, written_state

if TYPE_CHECKING:
    from fusednn.models import Sequential

#: Layers that keep a random generator in Keras, whose state has to be there.
_RANDOM = ("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise")


def _groups(
    layers: Iterable[Any], root: str = "layers", models: list[tuple[str, str]] | None = None
) -> Iterator[tuple[str, Layer]]:
    """Yield place and layer, also of layers inside of models, which are added to `models`."""
    used: Counter[str] = Counter()
    for layer in layers:
        name = snake_case(type(layer).__name__)
        count = used[name]
        used[name] += 1
        place = f"{root}/{name}_{count}" if count else f"{root}/{name}"
        if isinstance(layer, Layer):
            yield place, layer
            continue
        if models is not None:
            models.append((place, layer.name))
        yield from _groups(layer.layers, f"{place}/{root.rpartition('/')[2]}", models)


def write_weights(file: Any, model: Sequential, optimizer: Optimizer | None) -> None:
    """Write the weights of a built model, and an optimizer's state, to an open HDF5 file."""
    file.create_group("vars").attrs["name"] = model.name
    nested: list[tuple[str, str]] = []
    for place, layer in _groups(model.layers, models=nested):
        group = file.create_group(f"{place}/vars")
        group.attrs["name"] = layer.name
        for i, variable in enumerate(layer.weights):
            write_array(group, str(i), variable.numpy())
        if type(layer).__name__ in _RANDOM:
            seed = getattr(layer, "seed", None) or 0
            generator = file.create_group(f"{place}/seed_generator/vars")
            write_array(generator, "0", np.array([seed, 0], np.uint32))
    for place, name in nested:
        file.create_group(f"{place}/vars").attrs["name"] = name
    if optimizer is not None:
        group = file.create_group("optimizer/vars")
        group.attrs["name"] = "optimizer"
        for i, (_, array) in enumerate(written_state(optimizer, model.trainable_variables)):
            write_array(group, str(i), array)


def read_weights(file: Any, layers: list[Layer], mismatches: Mismatches) -> list[Array | None]:
    """Return the arrays of all layers in order, after all of them were found to fit.

    Raises
    ------
    MismatchError
        A layer's arrays are missing, too many, or of other shapes, and `mismatches` skips none.
    """
    root = "layers" if "layers" in file else "_layer_checkpoint_dependencies"
    found: list[Array | None] = []
    for place, layer in _groups(layers, root):
        read = partial(_layer_arrays, child(file, f"{place}/vars"), layer)
        found += mismatches.arrays(len(layer.weights), read)
    return found


def _layer_arrays(group: Any, layer: Layer) -> list[Array]:
    count = 0 if group is None else len(group)
    if count != len(layer.weights):
        raise MismatchError(
            f"The file must hold {len(layer.weights)} arrays for layer '{layer.name}'. "
            f"Received: {count}"
        )
    return [
        read_array(child(group, str(i)), variable.shape, f"'{variable.path}'")
        for i, variable in enumerate(layer.weights)
    ]


def read_optimizer(file: Any, model: Sequential, optimizer: Optimizer) -> None:
    """Set a new optimizer to the state in an open file; does nothing where there is none."""
    group = child(file, "optimizer/vars")
    if group is None or not len(group):
        return
    restore_state(
        optimizer,
        model.trainable_variables,
        len(group),
        lambda i, shape: read_array(child(group, str(i)), shape, f"array {i} of the optimizer"),
    )


def open_bytes(data: Any) -> Any:
    """Open an HDF5 file, given by its path or as a file object, for reading."""
    if isinstance(data, Path):
        check_heaps(data)
    try:
        return h5py().File(data, "r")
    except OSError as error:
        raise ValueError(f"The file is no HDF5 file, or is damaged: {error}") from None
