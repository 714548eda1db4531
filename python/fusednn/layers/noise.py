"""Layers that disturb their input in training: noise that is added, or multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn._arguments import check_number
from fusednn.layers.buffers import Buffers
from fusednn.layers.drawn import Drawn
from fusednn.layers.dropout import Dropout, DropoutStep
from fusednn.layers.layer import Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.randomness import random_generator

#: The lowest value of SELU, which `AlphaDropout` puts in the place of what it drops.
_SELU_LOWEST = -1.0507009873554805 * 1.6732632423543772


class NoiseLayer(Layer):
    """Base of layers that draw normal numbers in training.

    Parameters
    ----------
    seed : int, optional
        Gives the layer a generator of its own; else numbers are drawn from
        `fusednn.utils.random_generator`, which `set_random_seed` seeds.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self._generator = None if seed is None else np.random.default_rng(seed)

    def random_generator(self) -> np.random.Generator:
        """Return the generator that numbers are drawn from."""
        return random_generator() if self._generator is None else self._generator

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"seed": self.seed}


class GaussianNoise(NoiseLayer):
    """In training, ``y = x + stddev * n`` with standard normal n; else the identity.

    Parameters
    ----------
    stddev : float
        At least 0.
    seed : int, optional
        See `NoiseLayer`.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.stddev = check_number("stddev", stddev, minimum=0)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step in training, none in inference."""
        return [AddedNoiseStep(self, self.stddev)] if training and self.stddev else []

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"stddev": self.stddev}


class GaussianDropout(NoiseLayer):
    """In training, ``y = x * (1 + sqrt(rate / (1 - rate)) * n)`` with standard normal n.

    The noise has the mean and the variance of `Dropout`'s mask (Srivastava et al. 2014); the
    identity in inference.

    Parameters
    ----------
    rate : float
        In [0, 1).
    seed : int, optional
        See `NoiseLayer`.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.rate = check_number("rate", rate, minimum=0, below=1)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step in training, none in inference."""
        spread = math.sqrt(self.rate / (1 - self.rate))
        return [FactorNoiseStep(self, spread)] if training and spread else []

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"rate": self.rate}


class AlphaDropout(Dropout):
    """Dropout that keeps the mean and the variance of SELU's outputs (Klambauer et al. 2017).

    In training each element becomes, with probability `rate`, the lowest value of SELU, -1.758;
    all are then scaled and shifted so that mean 0 and variance 1 stay. The identity in inference.

    Parameters
    ----------
    rate : float
        In [0, 1).
    noise_shape, seed, **kwargs
        As of `Dropout`.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            check_number("rate", rate, minimum=0, below=1), noise_shape, seed, **kwargs
        )

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step in training, none in inference."""
        return [AlphaDropoutStep(self)] if training and self.rate > 0 else []


class AddedNoiseStep(Step):
    """y = x + noise."""

    runs_on_gpu = True

    def __init__(self, layer: NoiseLayer, spread: float) -> None:
        self._layer = layer
        self._spread = spread

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y and the noise."""
        self._y = buffers.output(input_shape)
        self._drawn = Drawn(input_shape, buffers)
        self._noise = self._drawn.used

    def prepare(self) -> None:
        """Draw the noise."""
        self._draw()
        self._drawn.send()

    def _draw(self) -> None:
        noise = self._drawn.on_host
        self._layer.random_generator().standard_normal(out=noise, dtype=noise.dtype)
        np.multiply(noise, self._spread, out=noise)

    def forward(self, x: Array) -> Array:
        """Add the noise."""
        return np.add(x, self._noise, out=self._y)

    def backward(self, grad: Array) -> Array:
        """Return the gradient as it is."""
        return grad


class FactorNoiseStep(AddedNoiseStep):
    """y = x * (1 + noise)."""

    def _draw(self) -> None:
        super()._draw()
        np.add(self._drawn.on_host, 1, out=self._drawn.on_host)

    def forward(self, x: Array) -> Array:
        """Apply the factors."""
        return np.multiply(x, self._noise, out=self._y)

    def backward(self, grad: Array) -> Array:
        """Apply the same factors to the gradient, in its place."""
        return np.multiply(grad, self._noise, out=grad)


class AlphaDropoutStep(DropoutStep):
    """y = x * mask + (lowest where the mask is 0), scaled and shifted."""

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, the mask, and what is added."""
        super().bind(input_shape, buffers, grad_input=grad_input)
        rate = self.layer.rate
        self._factor = ((1 - rate) * (1 + rate * _SELU_LOWEST**2)) ** -0.5
        self._shift = -self._factor * _SELU_LOWEST * rate
        self._drawn_added = Drawn(self._mask.shape, buffers)
        self._added = self._drawn_added.used

    def prepare(self) -> None:
        """Draw a mask, and what it adds."""
        mask, added = self._drawn.on_host, self._drawn_added.on_host
        self.layer.random_generator().random(out=mask, dtype=mask.dtype)
        np.greater_equal(mask, self.layer.rate, out=self._kept)
        np.multiply(self._kept, self._factor, out=mask)
        np.multiply(self._kept, -self._factor * _SELU_LOWEST, out=added)
        np.add(added, self._factor * _SELU_LOWEST + self._shift, out=added)
        self._drawn.send()
        self._drawn_added.send()

    def forward(self, x: Array) -> Array:
        """Apply the mask."""
        np.multiply(x, self._mask, out=self._y)
        return np.add(self._y, self._added, out=self._y)
