"""BatchNorm after training: the statistics of a whole data set, and its place in the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from fusednn import ops
from fusednn.data import Dataset
from fusednn.layers import BatchNormalization, Conv2D, Dense, DenseTranspose, Input, Layer
from fusednn.models.clone import clone_model
from fusednn.models.data import Array, check_count
from fusednn.models.feed import Feed, makes_batches, parts_of
from fusednn.models.nesting import distinct_names
from fusednn.models.own_call import refuse_own_call
from fusednn.models.sequential import Sequential
from fusednn.models.stack import stack

Data = ArrayLike | Dataset | Iterable[Any] | Callable[[], Iterable[ArrayLike]]


def recalibrate_batch_norm(model: Sequential, data: Data, batch_size: int = 256) -> None:
    """Set all moving statistics to the exact mean and variance of a data set.

    This is the first method of Ioffe and Szegedy (2015, algorithm 2): the weights stay as they
    are, and inference uses the statistics of the training set itself. Moving averages, the second
    method, lag behind the weights, or hold too few batches after a short training.

    Parameters
    ----------
    model : Sequential
        Built. Only moving means and variances change; frozen layers keep theirs.
    data : array_like, source of batches or callable
        Samples; or a `fusednn.data.Dataset` or anything else that `Sequential.fit` takes batches
        of, a generator excepted, which can be read only once; or a function that returns an
        iterable of batches of samples, anew at each call. Of batches with targets the first part
        is taken. Data need not fit in memory.
    batch_size : int
        How many samples of an array go through the model at once. The result does not depend on
        it, but for rounding.

    Raises
    ------
    ValueError, TypeError
        The data do not fit the model, are not finite, or hold no sample. The statistics of the
        layers before stay recalibrated then.

    Notes
    -----
    Layers are done front to back, one pass over the data for each, so that each layer sees inputs
    normalised by the recalibrated layers before it. Batches are merged by the formula of Chan,
    Golub and LeVeque. The variance is the biased one, as Keras' moving variance.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"`model` must be a Sequential. Received: {model!r}")
    refuse_own_call(model, "`recalibrate_batch_norm`")
    size = check_count("batch_size", batch_size)
    shape = model.input_shape
    for i, layer in enumerate(model._leaves):
        if not isinstance(layer, BatchNormalization) or not layer.trainable:
            continue
        prefix = stack(shape, model._leaves[:i]) if i else None
        parts = []
        for batch in _batches(model, data, size):
            x = batch if prefix is None else prefix.predict_on_batch(batch)
            parts.append(
                ops.batch_norm_statistics(
                    np.ascontiguousarray(x), channel_axis=layer.channel_axis(x.ndim)
                )
            )
            if len(parts) == 64:
                parts = [ops.merge_statistics(parts)]
        if not parts:
            raise ValueError("`data` must hold at least one sample. Received: none")
        mean, m2, count = ops.merge_statistics(parts)
        variance = m2 / count
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise ValueError(f"`data` must be finite: the inputs of layer '{layer.name}' are not.")
        assert layer.moving_mean is not None
        assert layer.moving_variance is not None
        layer.moving_mean.assign(mean.astype(layer.dtype))
        layer.moving_variance.assign(variance.astype(layer.dtype))


def _batches(model: Sequential, data: Data, size: int) -> Iterator[Array]:
    if makes_batches(data):
        if hasattr(data, "__next__"):
            raise TypeError(
                "`data` must be readable again for each layer: give a function that returns a "
                f"new generator. Received: {type(data).__name__}"
            )
        with closing(Feed(data, name="data")) as feed:
            for number, given in enumerate(feed.epoch(), 1):
                inputs = model._fitting_inputs(parts_of(given, "data", number)[0], "data")
                if len(inputs):
                    yield inputs
        return
    if callable(data):
        for batch in data():
            x = batch[0] if isinstance(batch, tuple) else batch
            inputs = model._fitting_inputs(x, "data")
            if len(inputs):
                yield inputs
        return
    inputs = model._fitting_inputs(cast(ArrayLike, data), "data")
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]


def fold_batch_norm(model: Sequential) -> Sequential:
    """Return a model for inference whose normalisations are part of the weights before them.

    A `BatchNormalization` over the channels directly after a `Dense` or `Conv2D` without
    activation becomes ``kernel * s`` and ``(bias - mean) * s + beta``, with
    ``s = gamma / sqrt(var + epsilon)``. Others stay as they are.

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
    for layer in copy._leaves:
        before = folded[-1] if folded else None
        if isinstance(layer, BatchNormalization) and before not in tied and _takes(before, layer):
            assert isinstance(before, Dense | Conv2D)
            weights[-1] = _merged(weights[-1], layer)
            folded[-1] = type(before).from_config(before.get_config() | {"use_bias": True})
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


def _takes(before: Layer | None, norm: BatchNormalization) -> bool:
    if not isinstance(before, Dense | Conv2D) or before.kernel is None:
        return False
    rank = 4 if isinstance(before, Conv2D) else 2
    first = isinstance(before, Conv2D) and before.data_format == "channels_first"
    channels = 1 if first else rank - 1
    same = norm.axis in (channels, channels - rank)
    return same and before.activation.name == "linear" and before.activity_regularizer is None


def _merged(weights: list[Array], norm: BatchNormalization) -> list[Array]:
    values: dict[str, Any] = {v.name: v.numpy().astype(np.float64) for v in norm.weights}
    kernel, *rest = (w.astype(np.float64) for w in weights)
    bias = rest[0] if rest else 0.0
    scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + norm.epsilon)
    shifted = (bias - values["moving_mean"]) * scale + values.get("beta", 0.0)
    return [kernel * scale, shifted]
