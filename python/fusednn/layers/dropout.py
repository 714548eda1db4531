"""Inverted dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn._arguments import check_number
from fusednn.devices import CPU
from fusednn.layers.buffers import Buffers
from fusednn.layers.drawn import Drawn
from fusednn.layers.layer import Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.randomness import random_generator


class Dropout(Layer):
    """In training, each element is 0 with probability `rate`, else ``x / (1 - rate)``.

    Parameters
    ----------
    rate : float
        In [0, 1]; 1 drops everything, as in Keras.
    noise_shape : tuple of int or None, optional
        Shape of the mask, which is broadcast over x; None stands for x's own length there.
    seed : int, optional
        Gives the layer a generator of its own; else the mask is drawn from
        `fusednn.utils.random_generator`, which `set_random_seed` seeds.
    **kwargs
        Of `Layer`.

    Notes
    -----
    The identity in inference. `trainable` has no effect, as in Keras.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = check_number("rate", rate, minimum=0, maximum=1)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self._generator = None if seed is None else np.random.default_rng(seed)

    def random_generator(self) -> np.random.Generator:
        """Return the generator that masks are drawn from."""
        return random_generator() if self._generator is None else self._generator

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step in training, none in inference."""
        return [DropoutStep(self)] if training and self.rate > 0 else []

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {
            "rate": self.rate,
            "noise_shape": self.noise_shape,
            "seed": self.seed,
        }


class DropoutStep(Step):
    """y = x * mask, with mask 0 or 1 / (1 - rate).

    Masks are drawn and scaled by NumPy on every device, so that a seed gives the same ones.
    """

    runs_on_gpu = True

    def __init__(self, layer: Dropout) -> None:
        self.layer = layer

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y and the mask."""
        self._y = buffers.output(input_shape)
        shape = self._mask_shape(input_shape)
        self._drawn = Drawn(shape, buffers)
        self._kept = np.empty(shape, np.bool_)
        rate = self.layer.rate
        self._scale = CPU.scalar(1 / (1 - rate) if rate < 1 else 0, buffers.dtype)
        self._mask = self._drawn.used

    def _mask_shape(self, input_shape: Shape) -> Shape:
        noise_shape = self.layer.noise_shape
        if noise_shape is None:
            return input_shape
        if len(noise_shape) != len(input_shape):
            raise ValueError(
                f"`noise_shape` of layer '{self.layer.name}' must have one entry for each axis of "
                f"the input, {len(input_shape)}. Received: noise_shape={noise_shape}"
            )
        mask_shape = tuple(
            own if given is None else given
            for own, given in zip(input_shape, noise_shape, strict=True)
        )
        if any(m not in (1, n) for m, n in zip(mask_shape, input_shape, strict=True)):
            raise ValueError(
                f"`noise_shape` of layer '{self.layer.name}' must broadcast to the input's shape, "
                f"{input_shape}. Received: noise_shape={noise_shape}"
            )
        return mask_shape

    def prepare(self) -> None:
        """Draw a mask."""
        drawn = self._drawn.on_host
        self.layer.random_generator().random(out=drawn, dtype=drawn.dtype)
        np.greater_equal(drawn, self.layer.rate, out=self._kept)
        np.copyto(drawn, self._kept)
        np.multiply(drawn, self._scale, out=drawn)
        self._drawn.send()

    def forward(self, x: Array) -> Array:
        """Apply the mask."""
        return np.multiply(x, self._mask, out=self._y)

    def backward(self, grad: Array) -> Array:
        """Apply the same mask to the gradient, in its place."""
        return np.multiply(grad, self._mask, out=grad)
