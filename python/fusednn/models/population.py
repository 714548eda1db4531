"""BatchNorm after training: the statistics of a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from fusednn import ops
from fusednn._arguments import check_count
from fusednn.data import Dataset
from fusednn.devices import device_of, is_cupys
from fusednn.layers import BatchNormalization
from fusednn.models.data import Array
from fusednn.models.feed import Feed, makes_batches, parts_of
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
    data : array_like, list of arrays, source of batches or callable
        Samples; or a list of batches; or a `fusednn.data.Dataset` or anything else that
        `Sequential.fit` takes batches of; or a function that returns an iterable of batches of
        samples, anew at each call. Of batches with targets the first part is taken. Data need not
        fit in memory, but those of a generator, which must end: it can be read only once, so its
        batches are kept.
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
    if hasattr(data, "__next__") or _is_list_of_batches(data, len(model.input_shape)):
        kept = list(cast("Iterable[Any]", data))
        data = lambda: kept  # noqa: E731 - what can be read again for each layer
    shape = model.input_shape
    for i, layer in enumerate(model._leaves):
        if not isinstance(layer, BatchNormalization) or not layer.trainable:
            continue
        prefix = stack(shape, model._leaves[:i]) if i else None
        parts = []
        for batch in _batches(model, data, size):
            x = batch if prefix is None else prefix.predict_on_batch(batch)
            if is_cupys(x):  # made to fit on the device's stream
                x = device_of(x).read(x)
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


def _is_list_of_batches(data: Data, rank: int) -> bool:
    """Whether it is a list of arrays that have the batch axis, or of pairs of them and targets."""
    if not isinstance(data, list) or not data:
        return False
    first = data[0][0] if isinstance(data[0], tuple) else data[0]
    return isinstance(first, np.ndarray) and first.ndim == rank


def _batches(model: Sequential, data: Data, size: int) -> Iterator[Array]:
    if makes_batches(data):
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
