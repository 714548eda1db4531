"""Means and maxima of whole images."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fusednn.layers.buffers import Buffers
from fusednn.layers.image_axes import (
    channels_last,
    check_data_format,
    check_image,
    from_channels_last,
    in_format,
    to_channels_last,
)
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step


class GlobalPooling2D(Layer):
    """Base of layers that reduce each channel of an image to one number.

    ``(batch, rows, columns, channels)`` becomes ``(batch, channels)``, and so does ``(batch,
    channels, rows, columns)`` with `data_format` "channels_first".

    Parameters
    ----------
    data_format : {None, "channels_last", "channels_first"}
        As of `Conv2D`.
    keepdims : bool
        Keep both axes, of length 1.
    **kwargs
        Of `Layer`.
    """

    _step: ClassVar[type[GlobalPoolStep]]

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)
        self.keepdims = bool(keepdims)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output."""
        check_image(self.name, input_shape, self.data_format)
        batch, *_, channels = channels_last(input_shape, self.data_format)
        kept = in_format((batch, 1, 1, channels), self.data_format)
        return kept if self.keepdims else (batch, channels)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        return [
            *to_channels_last(self.data_format),
            self._step(self),
            *(from_channels_last(self.data_format) if self.keepdims else []),
        ]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {
            "data_format": self.data_format,
            "keepdims": self.keepdims,
        }


class GlobalPoolStep(Step):
    """One number for both axes of an image."""

    def __init__(self, layer: GlobalPooling2D) -> None:
        self._layer = layer

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape without rows and columns."""
        batch, *_, channels = input_shape
        return (batch, 1, 1, channels) if self._layer.keepdims else (batch, channels)

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y and grad_x."""
        self._y = buffers.output(self.output_shape(input_shape))
        batch, rows, columns, channels = input_shape
        self._numbers = self._y.reshape(batch, channels)
        self._share = 1 / (rows * columns)
        self._grad_x = buffers.gradient(input_shape) if grad_input else None


class GlobalAverageStep(GlobalPoolStep):
    """The mean over both axes of an image."""

    runs_on_gpu = True

    def forward(self, x: Array) -> Array:
        """Return the means."""
        x.sum(axis=(1, 2), out=self._numbers)
        np.multiply(self._y, self._share, out=self._y)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Return grad_x."""
        if self._grad_x is None:
            return grad
        np.multiply(grad, self._share, out=grad)
        batch, channels = self._numbers.shape
        np.copyto(self._grad_x, grad.reshape(batch, 1, 1, channels))
        return self._grad_x


class GlobalMaxStep(GlobalPoolStep):
    """The maximum over both axes of an image; equal ones share the gradient, as in Keras."""

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, grad_x, and where the maxima are."""
        super().bind(input_shape, buffers, grad_input=grad_input)
        self._wide = self._numbers[:, None, None, :]
        self._is_max = buffers.empty(input_shape, np.bool_)
        self._shares = buffers.empty(self._wide.shape)

    def forward(self, x: Array) -> Array:
        """Return the maxima; NaN where there is one."""
        self._x = x
        x.max(axis=(1, 2), out=self._numbers)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Return grad_x."""
        if self._grad_x is None:
            return grad
        np.equal(self._x, self._wide, out=self._is_max)
        self._is_max.sum(axis=(1, 2), keepdims=True, out=self._shares)
        np.maximum(self._shares, 1, out=self._shares)
        np.divide(grad.reshape(self._wide.shape), self._shares, out=self._shares)
        return np.multiply(self._is_max, self._shares, out=self._grad_x)


class GlobalAveragePooling2D(GlobalPooling2D):
    """The mean over rows and columns of images, channel by channel.

    Parameters
    ----------
    data_format, keepdims, **kwargs
        See `GlobalPooling2D`.
    """

    _step = GlobalAverageStep


class GlobalMaxPooling2D(GlobalPooling2D):
    """The maximum over rows and columns of images, channel by channel.

    Of equal maxima each has its share of the gradient.

    Parameters
    ----------
    data_format, keepdims, **kwargs
        See `GlobalPooling2D`.
    """

    _step = GlobalMaxStep


GlobalAvgPool2D = GlobalAveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D
