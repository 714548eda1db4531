"""Whole models in one HDF5 file, as Keras 2 wrote them and Keras 3 still reads them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.layers import InputLayer, Layer
from fusednn.optimizers import Optimizer
from fusednn.saving import keras2_config
from fusednn.saving.arrays_in_hdf5 import (
    Array,
    MismatchError,
    child,
    read_array,
    strings,
    write_array,
    write_texts,
)
from fusednn.saving.mismatches import Mismatches
from fusednn.saving.optimizer_state import restore_state, written_state
from fusednn.variable import Variable

if TYPE_CHECKING:
    from fusednn.models import Sequential

_LONGEST_ATTRIBUTE = 64512  # bytes; HDF5's headers hold no more
#: The optimizer's state, laid out as Keras' "optimizer_weights". Where Keras 3 (to 3.15 at least)
#: finds that name, it makes an optimizer for no variables at all, of its own files, too: the model
#: cannot be trained. With another name it trains on with new states.
_OWN_STATE = "fusednn_optimizer_weights"


def write_model(file: Any, model: Sequential, config: dict[str, Any], training: Any) -> None:
    """Write a built model; `config` and `training` are those of the `.keras` format."""
    file.attrs["keras_version"] = "3.0.0"
    file.attrs["backend"] = "tensorflow"
    texts = {"model_config": json.dumps(keras2_config.model_entry(config))}
    if training is not None:
        written = {k: training[k] for k in ("loss", "metrics", "weighted_metrics", "loss_weights")}
        written["optimizer_config"] = keras2_config.optimizer_entry(training["optimizer"])
        texts["training_config"] = json.dumps(written)
    write_texts(file, texts)
    write_weights(file.create_group("model_weights"), model)
    if training is not None and model.optimizer is not None:
        _write_optimizer(file.create_group(_OWN_STATE), model, model.optimizer)


def _write_optimizer(group: Any, model: Sequential, optimizer: Optimizer) -> None:
    state = written_state(optimizer, model.trainable_variables)
    _write_strings(group, "weight_names", [path for path, _ in state])
    for path, array in state:
        write_array(group, path, array)


def read_optimizer(file: Any, model: Sequential, optimizer: Optimizer) -> None:
    """Set a new optimizer to the state in an open file; does nothing where there is none."""
    group = child(file, _OWN_STATE if _OWN_STATE in file else "optimizer_weights")
    if group is None:
        return
    names = _in_new_order(strings(group, "weight_names"))
    if names:
        restore_state(
            optimizer,
            model.trainable_variables,
            len(names),
            lambda i, shape: read_array(
                child(group, names[i]), shape, f"'{names[i]}' of the optimizer"
            ),
        )


def _in_new_order(names: list[str]) -> list[str]:
    """Return the names of an optimizer's arrays in the order of newer files.

    Keras 2's older optimizers list one kind of state after the other (``Adam/dense/kernel/m:0``),
    newer ones both moments of a variable together; Nadam's product is made anew.
    """
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.rpartition("/")[2], []).append(name)
    kinds.pop("momentum_cache:0", None)
    first, second = kinds.pop("m:0", []), kinds.pop("v:0", [])
    if not names or not names[0].endswith("/iter:0") or len(first) != len(second):
        return names
    moments = [name for pair in zip(first, second, strict=True) for name in pair]
    others = [name for kind in kinds.values() for name in kind]
    return [*others[:1], *moments, *others[1:]]


def write_weights(group: Any, model: Sequential) -> None:
    """Write a model's weights by the names of layers."""
    group.attrs["backend"] = "tensorflow"
    group.attrs["keras_version"] = "3.0.0"
    _write_strings(group, "layer_names", [layer.name for layer in model.layers])
    for layer in model.layers:
        own = group.create_group(layer.name)
        named = _named(layer)
        _write_strings(own, "weight_names", [name for name, _ in named])
        for name, variable in named:
            write_array(own, name, variable.numpy())


def _named(layer: Any) -> list[tuple[str, Variable]]:
    """Return a layer's variables with their names, those that train first, as Keras has them."""
    if isinstance(layer, Layer):
        return [(f"{layer.name}/{variable.name}", variable) for variable in layer.weights]
    names = {id(variable): name for name, variable in layer._named_weights()}
    ordered = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [(names[id(variable)], variable) for variable in ordered]


def _write_strings(group: Any, name: str, values: list[str]) -> None:
    encoded = np.array([v.encode() for v in values] or np.zeros(0, "S1"))
    parts = -(-encoded.nbytes // _LONGEST_ATTRIBUTE)
    if parts <= 1:
        group.attrs[name] = encoded
        return
    for i, part in enumerate(np.array_split(encoded, parts)):
        group.attrs[f"{name}{i}"] = part


def read_weights(
    group: Any, layers: list[Layer], mismatches: Mismatches, by_name: bool = False
) -> list[Array | None]:
    """Return the arrays of all layers in order; layers are found as Keras does it.

    With `by_name`, layers whose names the file does not have get None; otherwise all those with
    weights are in order.

    Raises
    ------
    ValueError
        The file has other layers with weights.
    MismatchError
        A layer's arrays are too many, too few or of other shapes, and `mismatches` skips none.
    """
    named: list[tuple[str, list[str]]] = []
    for name in strings(group, "layer_names"):
        own = child(group, name)
        weights = [] if own is None else strings(own, "weight_names")
        if weights:
            named.append((name, weights))
    holders = [layer for layer in layers if layer.weights and not isinstance(layer, InputLayer)]
    if by_name:
        in_file = dict(named)
        pairs = [(x, x.name, in_file[x.name]) for x in holders if x.name in in_file]
    elif len(named) != len(holders):
        raise ValueError(
            f"The file must hold the weights of {len(holders)} layers. Received: {len(named)}"
        )
    else:
        pairs = [(x, name, weights) for x, (name, weights) in zip(holders, named, strict=True)]
    arrays: dict[int, Array | None] = {}
    for layer, name, weights in pairs:
        variables = [variable for _, variable in _named(layer)]
        read = partial(_layer_arrays, child(group, name), layer.name, weights, variables)
        found = mismatches.arrays(len(variables), read)
        arrays.update(zip(map(id, variables), found, strict=True))
    return [arrays.get(id(variable)) for layer in layers for variable in layer.weights]


def _layer_arrays(
    group: Any, layer: str, weights: list[str], variables: list[Variable]
) -> list[Array]:
    if len(weights) != len(variables):
        raise MismatchError(
            f"The file must hold {len(variables)} arrays for layer '{layer}'. "
            f"Received: {len(weights)}"
        )
    return [
        read_array(child(group, weight), variable.shape, f"'{variable.path}'")
        for weight, variable in zip(weights, variables, strict=True)
    ]
