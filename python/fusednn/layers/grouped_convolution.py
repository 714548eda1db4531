"""The base of convolutions' steps, and the step whose filters see a part of the channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fusednn.devices import CPU
from fusednn.layers.buffers import Buffers
from fusednn.layers.step import Array, Shape, Step

if TYPE_CHECKING:
    from fusednn.layers.convolution import Conv2D


class ConvolutionStep(Step):
    """Base of the steps of a `Conv2D`."""

    def __init__(self, layer: Conv2D, trainable: bool) -> None:
        assert layer.kernel is not None
        self._layer = layer
        self._kernel = layer.kernel
        self._bias = layer.bias
        self._groups = layer.groups
        self.has_gradients = trainable

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape with a place for each window."""
        filters = self._kernel.shape[3]
        shape = self._layer.windows.output_shape(self._layer.name, input_shape, filters)
        return tuple(n for n in shape if n is not None)


class GroupedConv2DStep(ConvolutionStep):
    """As `Conv2DStep`, with a matrix of windows, and a product, for each group of channels."""

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, the windows, and the gradients."""
        if self._kernel.device is not CPU:
            raise NotImplementedError(
                f"Layer '{self._layer.name}' has groups, which are computed on the CPU alone."
            )
        shape = self.output_shape(input_shape)
        height, width, channels, _ = self._kernel.shape
        windows = (self._groups, *shape[:3], height * width, channels)
        rows = (self._groups, math.prod(shape[:3]), height * width * channels)

        def images() -> tuple[Array, Array]:
            columns = buffers.empty(windows)
            return columns, columns.reshape(rows)

        self._images = self._layer.windows.on(input_shape, buffers.dtype, 0, buffers.device)
        self._y = buffers.output(shape)
        self._columns, self._matrices = images()
        self._grad_x: Array | None = None
        if grad_input:
            self._grad_x = buffers.gradient(input_shape)
            self._grad_images = self._layer.windows.on(
                input_shape, buffers.dtype, 0, buffers.device
            )
            self._grad_columns, self._grad_matrices = images()

    def forward(self, x: Array) -> Array:
        """Copy the windows out and multiply."""
        padded = self._images.fill(x)
        for i, element in enumerate(self._images.elements(padded)):
            np.copyto(self._columns[:, :, :, :, i], self._of_groups(element))
        np.matmul(self._matrices, self._by_group(self._kernel.value), out=self._by_group(self._y))
        if self._bias is not None:
            np.add(self._y, self._bias.value, out=self._y)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Write the gradients of kernel and bias; return the sum over all windows' gradients."""
        grads = self._by_group(grad)
        if self.has_gradients:
            grad_kernels = self._by_group(self._kernel.grad)
            np.matmul(self._matrices.transpose(0, 2, 1), grads, out=grad_kernels)
            if self._bias is not None:
                grad.sum(axis=(0, 1, 2), out=self._bias.grad)
        if self._grad_x is None:
            return grad
        kernels = self._by_group(self._kernel.value)
        np.matmul(grads, kernels.transpose(0, 2, 1), out=self._grad_matrices)
        total = self._grad_images.empty_like(self._grad_x)
        total.fill(0)
        for i, element in enumerate(self._grad_images.elements(total)):
            part = self._of_groups(element)
            np.add(part, self._grad_columns[:, :, :, :, i], out=part)
        return self._grad_images.inner(self._grad_x)

    def _by_group(self, array: Array) -> Array:
        """Return (..., filters) as a view (groups, everything else, filters of a group)."""
        return array.reshape(-1, self._groups, array.shape[-1] // self._groups).transpose(1, 0, 2)

    def _of_groups(self, element: Array) -> Array:
        """Return (batch, rows, columns, channels) as a view with the groups first."""
        channels = element.shape[-1] // self._groups
        split = element.reshape(*element.shape[:3], self._groups, channels)
        return split.transpose(3, 0, 1, 2, 4)
