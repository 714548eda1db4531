"""Unsupervised pretraining: each hidden layer learns to keep what it sees (Hinton et al. 2006)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from numpy.typing import ArrayLike

from fusednn._arguments import check_number
from fusednn.callbacks import History
from fusednn.layers import Dense, DenseTranspose, Flatten, GaussianNoise, Layer, Reshape
from fusednn.models.own_call import refuse_own_call
from fusednn.models.sequential import Sequential
from fusednn.models.stack import stack


def pretrain_autoencoders(
    model: Sequential,
    x: ArrayLike,
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
    x : array_like
        Samples, for all layers the same.
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
    inputs = model._fitting_inputs(x, "x")
    if places[0]:
        inputs = _run(layers[: places[0]], shape, inputs)
    histories = []
    for start, stop in pairwise(places):
        block = layers[start:stop]
        sample = inputs.shape[1:]
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
        histories.append(coder.fit(inputs, inputs, **fit_options))
        inputs = _run(block, (None, *sample), inputs)
    return histories


def _run(layers: list[Layer], shape: tuple[int | None, ...], x: Any) -> Any:
    return stack(shape, layers).predict(x, batch_size=256, verbose=0)
