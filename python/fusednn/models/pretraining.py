"""Unsupervised pretraining: each hidden layer learns to keep what it sees (Hinton et al. 2006)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any, cast

from fusednn._arguments import check_number
from fusednn.callbacks import History
from fusednn.layers import Dense, DenseTranspose, Flatten, GaussianNoise, Layer, Reshape
from fusednn.models.feed import Feed, makes_batches, parts_of
from fusednn.models.own_call import refuse_own_call
from fusednn.models.sequential import Sequential
from fusednn.models.stack import stack


def pretrain_autoencoders(
    model: Sequential,
    x: Any,
    *,
    optimizer: Any = "adam",
    loss: Any = "mse",
    noise: float = 0.0,
    tied: bool = False,
    **fit_options: Any,
) -> list[History]:
    """Train the hidden layers of a model on samples without labels, one after another.

    Each hidden `Dense` layer, with the layers up to the next one, becomes the encoder of an
    autoencoder whose decoder is a new linear `Dense` layer: it is trained to give back its input,
    which are the outputs of the layers before it. Then the decoder is dropped. The last `Dense`
    layer is not touched: it is for the labels (Bengio et al. 2007).

    Parameters
    ----------
    model : Sequential
        Built, with two `Dense` layers at least; its layers are trained in place, those that are
        trainable.
    x : array_like, or source of batches
        Samples, for all layers the same; or what `Sequential.fit` takes batches of, such as a
        `fusednn.data.Dataset` that need not fit in memory, whose first parts are taken. It is read
        again for each layer and epoch, so a generator will not do.
    optimizer, loss
        Of each autoencoder, as of `Sequential.compile`: a name, or a dictionary. Objects are
        refused, as each autoencoder needs its own.
    noise : float
        Standard deviation of noise that is added to the inputs of an encoder, not to what it has
        to give back: at least 0. More than 0 makes denoising autoencoders (Vincent et al. 2008).
    tied : bool
        Whether a decoder's kernel is the transpose of its encoder's (`DenseTranspose`) instead of
        one of its own: half the parameters. Then the layers up to the next `Dense` layer must keep
        the shape of their input.
    **fit_options
        Of `Sequential.fit`: `epochs`, `batch_size`, `verbose`, ...

    Returns
    -------
    list of History
        One for each hidden layer, front to back.

    Raises
    ------
    ValueError, TypeError
        The model has no hidden `Dense` layer, or an argument does not fit.
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"`model` must be a Sequential. Received: {model!r}")
    for name, value in (("optimizer", optimizer), ("loss", loss)):
        if not isinstance(value, (str, dict)):
            raise TypeError(f"`{name}` must be a name or a dictionary. Received: {name}={value!r}")
    refuse_own_call(model, "`pretrain_autoencoders`")
    spread = check_number("noise", noise, minimum=0)
    shape = model.input_shape
    layers = model._leaves
    places = [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]
    if len(places) < 2:
        raise ValueError(
            "`model` must have a hidden `Dense` layer and one for the output. "
            f"Received: {len(places)} `Dense` layers"
        )
    data = _Encoded(model, x, fit_options) if makes_batches(x) else None
    inputs = None if data is not None else model._fitting_inputs(x, "x")
    if places[0] and inputs is not None:
        inputs = _run(layers[: places[0]], shape, inputs)
    histories = []
    for start, stop in pairwise(places):
        block = layers[start:stop]
        before_block = stack(shape, layers[:start]) if start else None
        at_block = shape if before_block is None else before_block.output_shape
        sample = cast("tuple[int, ...]", at_block[1:])
        dtype = model.dtype.name
        before: list[Layer] = [GaussianNoise(spread, dtype=dtype)] if spread else []
        decoder: list[Layer] = [
            Flatten(dtype=dtype),
            Dense(math.prod(sample), dtype=dtype),
            Reshape(sample, dtype=dtype),
        ]
        if tied:
            encoder = block[0]
            assert isinstance(encoder, Dense)
            decoder = [DenseTranspose(encoder, dtype=dtype)]
        coder = stack((None, *sample), [*before, *block, *decoder])
        coder.compile(optimizer, loss)
        if data is not None:
            data.encoder = before_block
            histories.append(coder.fit(data, **data.fit_options))
            continue
        histories.append(coder.fit(inputs, inputs, **fit_options))
        assert inputs is not None
        inputs = _run(block, (None, *sample), inputs)
    return histories


class _Encoded:
    """Batches of a source as the layers before a block make them, each its own target.

    Attributes
    ----------
    encoder : Sequential or None
        The layers before.
    fit_options : dict
        Those of `fit` that are not of the source.
    """

    def __init__(self, model: Sequential, source: Any, fit_options: dict[str, Any]) -> None:
        if hasattr(source, "__next__"):
            raise ValueError(
                "`x` must be data that can be read again, for each layer: a Dataset, a sequence of "
                f"batches or arrays. Received: {source!r}"
            )
        own = dict(fit_options)
        steps, shuffle = own.pop("steps_per_epoch", None), own.pop("shuffle", True)
        self._model = model
        self._feed = Feed(source, self._inputs, steps=steps, shuffle=bool(shuffle))
        self.fit_options = own
        self.encoder: Sequential | None = None

    def _inputs(self, batch: Any, number: int) -> tuple[Any, ...]:
        part = parts_of(batch, "x", number)[0]
        return (self._model._fitting_inputs(part, f"x of batch {number}"),)

    def __iter__(self) -> Iterator[Any]:
        with closing(self._feed):
            for (inputs,) in self._feed.epoch():
                encoder = self.encoder
                known = inputs if encoder is None else encoder.predict_on_batch(inputs)
                yield known, known


def _run(layers: list[Layer], shape: tuple[int | None, ...], x: Any) -> Any:
    return stack(shape, layers).predict(x, batch_size=256, verbose=0)
