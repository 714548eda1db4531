"""BatchNorm for inference: its place in the weights of the layers beside it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from fusednn.layers import (
    AlphaDropout,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DenseTranspose,
    Dropout,
    Flatten,
    GaussianDropout,
    GaussianNoise,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    Layer,
    MaxPooling2D,
    Reshape,
)
from fusednn.layers.layer import BatchShape
from fusednn.models.clone import clone_model
from fusednn.models.data import Array
from fusednn.models.nesting import distinct_names
from fusednn.models.own_call import refuse_own_call
from fusednn.models.sequential import Sequential

#: Layers that do nothing in inference: what is beside them counts as neighbours.
_IDENTITIES = (AlphaDropout, Dropout, GaussianDropout, GaussianNoise)
#: What a normalisation may come before or after, which is all the same: means of channels, and
#: where nothing is scaled by less than 0 largest elements.
_MEANS = (AveragePooling2D, Flatten, GlobalAveragePooling2D, Reshape)
_LARGEST = (GlobalMaxPooling2D, MaxPooling2D)


def fold_batch_norm(model: Sequential) -> Sequential:
    """Return a model for inference whose normalisations are part of the weights beside them.

    With ``s = gamma / sqrt(var + epsilon)`` and ``b = beta - mean * s`` a `BatchNormalization`
    over the channels becomes

    - ``kernel * s`` and ``bias * s + b`` of the `Dense` or `Conv2D` without activation before it;
    - else ``s[:, None] * kernel`` and ``bias + b @ kernel`` of the `Dense` after it, or the like
      of a `Conv2D` of one group whose padding is "valid" (zeros around the image are not
      normalised).

    Dropout, noise, `Flatten`, `Reshape` and pooling between the two do not matter, but for pooling
    of the largest elements where an ``s`` is negative. Others stay as they are.

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
    inputs: list[BatchShape] = []  # of the folded ones
    shape = model.input_shape
    for layer in copy._leaves:
        place = _neighbour(folded)
        before = None if place is None else folded[place]
        if before is not None and place is not None and before not in tied:
            between = folded[place + 1 :]
            produced = before.compute_output_shape(inputs[place])
            if isinstance(layer, BatchNormalization) and _takes(before):
                target = _places(shape, layer.channel_axis(len(shape)))
                source = _behind(between, produced, _channel_axis(before, produced), layer)
                taken = _one_of_each(source, target)
                if taken is not None:
                    weights[place] = _merged_before(weights[place], layer, taken)
                    folded[place] = _with_bias(before)
                    shape = layer.compute_output_shape(shape)
                    continue
            takes = isinstance(before, BatchNormalization) and _takes_after(layer)
            if takes and layer not in tied:
                norm = cast(BatchNormalization, before)
                source = _behind(between, produced, norm.channel_axis(len(produced)), norm)
                taken = _one_of_each(_places(shape, _channel_axis(layer, shape)), source)
                if norm.activity_regularizer is None and taken is not None:
                    merged = _merged_after(layer.get_weights(), norm, taken)
                    del folded[place], weights[place], inputs[place]
                    folded.append(_with_bias(layer))
                    weights.append(merged)
                    inputs.append(shape)
                    shape = layer.compute_output_shape(shape)
                    continue
        inputs.append(shape)
        shape = layer.compute_output_shape(shape)
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
    """Place of the last layer that a normalisation cannot change places with."""
    passed = (*_IDENTITIES, *_MEANS, *_LARGEST)
    for place in range(len(layers) - 1, -1, -1):
        passes = isinstance(layers[place], passed) and not layers[place].has_own_call()
        if not passes or layers[place].activity_regularizer is not None:
            return place
    return None


def _places(shape: BatchShape, axis: int) -> Array:
    """Return each element's index along an axis of the batch's shape."""
    dims = cast("tuple[int, ...]", shape[1:])
    index: Array = np.indices(dims)[axis - 1]
    return index


def _behind(
    between: list[Layer], shape: BatchShape, axis: int, norm: BatchNormalization
) -> Array | None:
    """Return of which channel each element is behind some layers; None where order matters."""
    falls = bool((_scale_and_shift(norm)[0] < 0).any())
    if falls and any(isinstance(layer, _LARGEST) for layer in between):
        return None
    found: Array = _places(shape, axis)[None].astype(np.float64)
    for layer in between:
        if not isinstance(layer, _IDENTITIES):
            found = type(layer).from_config(layer.get_config() | {"dtype": "float64"})(found)
    index: Array = np.rint(found[0]).astype(np.int64)  # means of equal numbers
    return index


def _one_of_each(of: Array | None, to: Array | None) -> Array | None:
    """Return for each number in `of` the one number in `to` at its places; None: there are more."""
    if of is None or to is None:
        return None
    taken = np.zeros(of.max() + 1, np.int64)
    taken[of] = to
    return taken if np.array_equal(taken[of], to) else None


def _channel_axis(layer: Layer, shape: BatchShape) -> int:
    first = isinstance(layer, Conv2D) and layer.data_format == "channels_first"
    return 1 if first else len(shape) - 1


def _with_bias(layer: Layer) -> Layer:
    return type(layer).from_config(layer.get_config() | {"use_bias": True})


def _takes(before: Layer) -> bool:
    if not isinstance(before, Dense | Conv2D) or before.kernel is None or before.has_own_call():
        return False
    return before.activation.name == "linear" and before.activity_regularizer is None


def _takes_after(layer: Layer) -> bool:
    if not isinstance(layer, Dense | Conv2D) or layer.kernel is None:
        return False
    other = isinstance(layer, Conv2D) and (layer.padding != "valid" or layer.groups > 1)
    return not other and not layer.has_own_call()


def _scale_and_shift(norm: BatchNormalization) -> tuple[Array, Array]:
    values: dict[str, Any] = {v.name: v.numpy().astype(np.float64) for v in norm.weights}
    scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + norm.epsilon)
    return scale, values.get("beta", 0.0) - values["moving_mean"] * scale


def _merged_before(weights: list[Array], norm: BatchNormalization, taken: Array) -> list[Array]:
    kernel, *rest = (w.astype(np.float64) for w in weights)
    scale, shift = (values[taken] for values in _scale_and_shift(norm))
    return [kernel * scale, (rest[0] if rest else 0.0) * scale + shift]


def _merged_after(weights: list[Array], norm: BatchNormalization, taken: Array) -> list[Array]:
    kernel, *rest = (w.astype(np.float64) for w in weights)
    scale, shift = (values[taken] for values in _scale_and_shift(norm))
    sums = kernel.sum(axis=tuple(range(kernel.ndim - 2)))  # of all places of a window
    return [kernel * scale[:, None], (rest[0] if rest else 0.0) + shift @ sums]
