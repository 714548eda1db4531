"""Maxima and means of windows of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fusednn.layers.buffers import Buffers
from fusednn.layers.image_axes import (
    channel_axis,
    check_data_format,
    check_image,
    from_channels_last,
    to_channels_last,
)
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.layers.windows import Windows, check_padding, pair


class Pooling2D(Layer):
    """Base of layers that reduce each window of each channel to one number.

    Parameters
    ----------
    pool_size : int or (int, int)
    strides : int, (int, int) or None
        None: `pool_size`.
    padding : {"valid", "same"}
        As of `Conv2D`; what lies outside of the image has no influence.
    data_format : {None, "channels_last", "channels_first"}
        As of `Conv2D`.
    **kwargs
        Of `Layer`.
    """

    _step: ClassVar[type[PoolStep]]

    def __init__(
        self,
        pool_size: int | Sequence[int] = (2, 2),
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = pair("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else pair("strides", strides)
        self.padding = check_padding(padding)
        self.data_format = check_data_format(data_format)
        self.windows = Windows(self.pool_size, self.strides, self.padding)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output."""
        check_image(self.name, input_shape, self.data_format)
        channels = input_shape[channel_axis(self.data_format)]
        return self.windows.output_shape(self.name, input_shape, channels, self.data_format)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        return [
            *to_channels_last(self.data_format),
            self._step(self),
            *from_channels_last(self.data_format),
        ]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


class PoolStep(Step):
    """What both reductions share."""

    runs_on_gpu = True

    #: What surrounds images.
    margin: ClassVar[float]

    def __init__(self, layer: Pooling2D) -> None:
        self._layer = layer

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape with a place for each window."""
        name, channels = self._layer.name, input_shape[-1]
        shape = self._layer.windows.output_shape(name, input_shape, channels)
        return tuple(n for n in shape if n is not None)

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y and grad_x."""
        shape = self.output_shape(input_shape)
        self._images = self._layer.windows.on(
            input_shape, buffers.dtype, self.margin, buffers.device
        )
        self._y = buffers.output(shape)
        self._grad_x: Array | None = None
        if grad_input:
            self._grad_x = buffers.gradient(input_shape)
            self._grad_images = self._layer.windows.on(
                input_shape, buffers.dtype, 0, buffers.device
            )
            self._part = buffers.empty(shape)

    def _sums(self) -> Array:
        assert self._grad_x is not None
        total = self._grad_images.empty_like(self._grad_x)
        total.fill(0)
        return total


class MaxPoolStep(PoolStep):
    """The largest element of each window; the gradient goes to the first of several."""

    margin = -math.inf

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, the place of each maximum, and grad_x."""
        super().bind(input_shape, buffers, grad_input=grad_input)
        self._larger = buffers.empty(self._y.shape, np.bool_)
        self._place = buffers.empty(self._y.shape, np.int32) if grad_input else None

    def forward(self, x: Array) -> Array:
        """Return the maxima."""
        for i, element in enumerate(self._images.elements(self._images.fill(x))):
            if i == 0:
                np.copyto(self._y, element)
                if self._place is not None:
                    self._place.fill(0)
                continue
            if self._place is not None:
                np.greater(element, self._y, out=self._larger)
                np.copyto(self._place, i, where=self._larger)
            np.maximum(self._y, element, out=self._y)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Return grad_x."""
        if self._grad_x is None:
            return grad
        total = self._sums()
        for i, element in enumerate(self._grad_images.elements(total)):
            assert self._place is not None
            np.equal(self._place, i, out=self._larger)
            np.multiply(grad, self._larger, out=self._part)
            np.add(element, self._part, out=element)
        return self._grad_images.inner(self._grad_x)


class AveragePoolStep(PoolStep):
    """The mean of what each window sees of the image."""

    margin = 0.0

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, the number of elements in each window, and grad_x."""
        super().bind(input_shape, buffers, grad_input=grad_input)
        image = (1, *input_shape[1:3], 1)
        seen = self._layer.windows.on(image, buffers.dtype, 0)
        ones = seen.fill(np.ones(image, buffers.dtype))
        counts = np.sum(list(seen.elements(ones)), axis=0, dtype=buffers.dtype)
        self._share = buffers.device.array(np.reciprocal(counts))

    def forward(self, x: Array) -> Array:
        """Return the means."""
        self._y.fill(0)
        for element in self._images.elements(self._images.fill(x)):
            np.add(self._y, element, out=self._y)
        return np.multiply(self._y, self._share, out=self._y)

    def backward(self, grad: Array) -> Array:
        """Return grad_x."""
        if self._grad_x is None:
            return grad
        np.multiply(grad, self._share, out=self._part)
        total = self._sums()
        for element in self._grad_images.elements(total):
            np.add(element, self._part, out=element)
        return self._grad_images.inner(self._grad_x)


class MaxPooling2D(Pooling2D):
    """The largest element of each window, channel by channel.

    Parameters
    ----------
    pool_size, strides, padding, data_format, **kwargs
        See `Pooling2D`.
    """

    _step = MaxPoolStep


class AveragePooling2D(Pooling2D):
    """The mean of each window, channel by channel.

    Parameters
    ----------
    pool_size, strides, padding, data_format, **kwargs
        See `Pooling2D`. With "same" padding a mean is over what lies in the image, as in Keras.
    """

    _step = AveragePoolStep


MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
