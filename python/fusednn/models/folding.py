"""BatchNorm for inference: its place in the weights of the layers beside it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from fusednn.layers import (
    AlphaDropout,
    BatchNormalization,
    Conv2D,
    Dense,
    DenseTranspose,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    Input,
    Layer,
)
from fusednn.models.clone import clone_model
from fusednn.models.data import Array
from fusednn.models.nesting import distinct_names
from fusednn.models.own_call import refuse_own_call
from fusednn.models.sequential import Sequential

#: Layers that do nothing in inference: what is beside them counts as neighbours.
_IDENTITIES = (AlphaDropout, Dropout, GaussianDropout, GaussianNoise)


def fold_batch_norm(model: Sequential) -> Sequential:
    """Return a model for inference whose normalisations are part of the weights beside them.

    With ``s = gamma / sqrt(var + epsilon)`` and ``b = beta - mean * s`` a `BatchNormalization`
    over the channels becomes

    - ``kernel * s`` and ``bias * s + b`` of the `Dense` or `Conv2D` without activation before it;
    - else ``s[:, None] * kernel`` and ``bias + b @ kernel`` of the `Dense` after it, or the like
      of a `Conv2D` of one group whose padding is "valid" (zeros around the image are not
      normalised).

    Dropout and noise between the two do not matter. Others stay as they are.

    Parameters
    ----------
    model : Sequential
        Built; left as it is.

    Returns
    -------
    Sequential
        New layers, those of nested models in their place, with the same names (numbered where two
        are equal then), not compiled; outputs differ by rounding alone.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"`model` must be a Sequential. Received: {model!r}")
    model._check_built()
    refuse_own_call(model, "`fold_batch_norm`")
    copy = clone_model(model)
    copy.set_weights(model.get_weights())
    # A kernel that another layer uses, too, stays as it is.
    tied = [layer.dense for layer in copy._leaves if isinstance(layer, DenseTranspose)]
    folded: list[Layer] = []
    weights: list[list[Array]] = []
    shape = model.input_shape
    for layer in copy._leaves:
        rank = len(shape)  # of what comes in
        shape = layer.compute_output_shape(shape)
        place = _neighbour(folded)
        before = None if place is None else folded[place]
        if place is not None and before not in tied:
            if isinstance(layer, BatchNormalization) and _takes(before, layer, rank):
                assert before is not None
                weights[place] = _merged_before(weights[place], layer)
                folded[place] = _with_bias(before)
                continue
            takes = isinstance(before, BatchNormalization) and _takes_after(layer, before, rank)
            if takes and layer not in tied:
                merged = _merged_after(layer.get_weights(), cast(BatchNormalization, before))
                del folded[place], weights[place]
                folded.append(_with_bias(layer))
                weights.append(merged)
                continue
        folded.append(layer)
        weights.append(layer.get_weights())
    made: dict[int, Layer] = {}
    for layer, name in zip(folded, distinct_names(folded), strict=True):
        new = made[id(layer)] = type(layer).from_config(layer.get_config() | {"name": name})
        if isinstance(new, DenseTranspose) and isinstance(layer, DenseTranspose):
            new.dense = cast("Dense | str", made.get(id(layer.dense), layer.dense))
    result = Sequential([Input(batch_shape=model.input_shape), *made.values()], name=model.name)
    result.set_weights([array for own in weights for array in own])
    return result


def _neighbour(layers: list[Layer]) -> int | None:
    """Place of the last layer that does anything in inference."""
    for place in range(len(layers) - 1, -1, -1):
        identity = isinstance(layers[place], _IDENTITIES) and not layers[place].has_own_call()
        if not identity or layers[place].activity_regularizer is not None:
            return place
    return None


def _with_bias(layer: Layer) -> Layer:
    return type(layer).from_config(layer.get_config() | {"use_bias": True})


def _takes(before: Layer | None, norm: BatchNormalization, rank: int) -> bool:
    if not isinstance(before, Dense | Conv2D) or before.kernel is None:
        return False
    same = _over_channels(before, norm, rank) and not before.has_own_call()
    return same and before.activation.name == "linear" and before.activity_regularizer is None


def _takes_after(layer: Layer, norm: BatchNormalization, rank: int) -> bool:
    if not isinstance(layer, Dense | Conv2D) or layer.kernel is None:
        return False
    other = isinstance(layer, Conv2D) and (layer.padding != "valid" or layer.groups > 1)
    plain = not other and not layer.has_own_call() and norm.activity_regularizer is None
    return plain and _over_channels(layer, norm, rank)


def _over_channels(layer: Dense | Conv2D, norm: BatchNormalization, rank: int) -> bool:
    first = isinstance(layer, Conv2D) and layer.data_format == "channels_first"
    return norm.channel_axis(rank) == (1 if first else rank - 1)


def _scale_and_shift(norm: BatchNormalization) -> tuple[Array, Array]:
    values: dict[str, Any] = {v.name: v.numpy().astype(np.float64) for v in norm.weights}
    scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + norm.epsilon)
    return scale, values.get("beta", 0.0) - values["moving_mean"] * scale


def _merged_before(weights: list[Array], norm: BatchNormalization) -> list[Array]:
    kernel, *rest = (w.astype(np.float64) for w in weights)
    scale, shift = _scale_and_shift(norm)
    return [kernel * scale, (rest[0] if rest else 0.0) * scale + shift]


def _merged_after(weights: list[Array], norm: BatchNormalization) -> list[Array]:
    kernel, *rest = (w.astype(np.float64) for w in weights)
    scale, shift = _scale_and_shift(norm)
    sums = kernel.sum(axis=tuple(range(kernel.ndim - 2)))  # of all places of a window
    return [kernel * scale[:, None], (rest[0] if rest else 0.0) + shift @ sums]
