"""A second model of the same architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fusednn.layers import Dense, DenseTranspose, Layer
from fusednn.models.sequential import Sequential


def clone_model(
    model: Sequential, clone_function: Callable[[Layer], Layer] | None = None
) -> Sequential:
    """Return a model with new layers of the same configuration, and newly initialised weights.

    Parameters
    ----------
    model : Sequential
        Left as it is.
    clone_function : callable, optional
        Makes a new layer of each layer, also of those of nested models; else
        ``type(layer).from_config(layer.get_config())``.

    Returns
    -------
    Sequential
        Of the same name, built if `model` is, not compiled. To copy the weights too:
        ``clone.set_weights(model.get_weights())``.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"`model` must be a Sequential. Received: {model!r}")
    make = _from_config if clone_function is None else clone_function
    return _clone(model, make, {})


def _clone(model: Sequential, make: Callable[[Layer], Layer], made: dict[int, Layer]) -> Sequential:
    """Clone a model; `made` are the layers' clones so far, by the identity of the layers."""
    layers: list[Layer | Sequential] = []
    for layer in model.layers:
        if isinstance(layer, Sequential):
            layers.append(_clone(layer, make, made))
            continue
        clone = made[id(layer)] = make(layer)
        clone.learning_rate_multiplier = layer.learning_rate_multiplier
        if isinstance(clone, DenseTranspose) and isinstance(layer, DenseTranspose):
            # One whose kernel is of another model goes on sharing that.
            clone.dense = cast("Dense | str", made.get(id(layer.dense), layer.dense))
        layers.append(clone)
    kind = type(model) if model.has_own_call() else Sequential
    whole = kind(layers, name=model.name)
    if model.built:
        whole.build(model.input_shape)
    return whole


def _from_config(layer: Layer) -> Layer:
    return type(layer).from_config(layer.get_config())
