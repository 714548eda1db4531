"""The convolution of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn import activations, constraints, initializers, regularizers
from fusednn._arguments import check_count, refuse_absent
from fusednn._serialization import serialize
from fusednn.layers.activation import activation_steps
from fusednn.layers.buffers import Buffers
from fusednn.layers.grouped_convolution import ConvolutionStep, GroupedConv2DStep
from fusednn.layers.image_axes import (
    channel_axis,
    check_data_format,
    check_image,
    from_channels_last,
    to_channels_last,
)
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.layers.weight_arguments import ABSENT_OF_KERNELS
from fusednn.layers.windows import Windows, check_padding, pair
from fusednn.variable import Variable


class Conv2D(Layer):
    """``y[n, i, j] = activation(sum(window(x[n], i, j) * kernel) + bias)``, as one matrix product.

    x has shape ``(batch, rows, columns, channels)``, or ``(batch, channels, rows, columns)`` with
    `data_format` "channels_first", the kernel always ``(height, width, channels,
    filters)``, bias ``(filters,)``. (PyTorch: channels before rows, and filters first.)

    Parameters
    ----------
    filters : int
        Number of outputs of each window.
    kernel_size : int or (int, int)
    strides : int or (int, int)
    padding : {"valid", "same"}
        Whether windows stay within the image, or zeros surround it so that strides of 1 keep its
        size; with larger strides the margin is TensorFlow's, not PyTorch's.
    data_format : {None, "channels_last", "channels_first"}
        Where the channels of x and y lie; None: in the last axis. "channels_first" costs a copy of
        x and one of y.
    dilation_rate : int or (int, int)
        Distance of a window's elements.
    groups : int
        Parts of the channels and of the filters: filters of a part see its channels alone. It must
        divide both, and the kernel's third axis is of one part. More than 1 only on the CPU.
    activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, \
bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint
        As of `Dense`.
    **kwargs
        Of `Layer`; Keras' `lora_rank` and `quantization_config` must be off.

    Raises
    ------
    ValueError
        If an argument is not one of those above, or an input does not have the kernel's channels.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        refuse_absent(kwargs, ABSENT_OF_KERNELS)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if isinstance(filters, bool) or not isinstance(filters, (int, np.integer)) or filters < 1:
            raise ValueError(f"`filters` must be a positive integer. Received: filters={filters}")
        self.filters = int(filters)
        self.groups = check_count("groups", groups)
        if self.filters % self.groups:
            raise ValueError(
                "`groups` must divide `filters`. "
                f"Received: groups={self.groups}, filters={self.filters}"
            )
        self.kernel_size = pair("kernel_size", kernel_size)
        self.strides = pair("strides", strides)
        self.padding = check_padding(padding)
        self.data_format = check_data_format(data_format)
        self.dilation_rate = pair("dilation_rate", dilation_rate)
        self.windows = Windows(self.kernel_size, self.strides, self.padding, self.dilation_rate)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.kernel: Variable | None = None
        self.bias: Variable | None = None

    def build(self, input_shape: BatchShape) -> None:
        """Create `kernel` and `bias`."""
        check_image(self.name, input_shape, self.data_format)
        channels = input_shape[channel_axis(self.data_format)]
        if channels is None:
            raise ValueError(
                f"The input of layer '{self.name}' must have a known number of channels. "
                f"Received: input_shape={input_shape}"
            )
        if channels % self.groups:
            raise ValueError(
                f"The channels of the input of layer '{self.name}' must be a multiple of `groups`, "
                f"{self.groups}. Received: input_shape={input_shape}"
            )
        self.kernel = self.add_weight(
            "kernel",
            (*self.kernel_size, channels // self.groups, self.filters),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                (self.filters,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        super().build(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output."""
        shape = self.windows.output_shape(self.name, input_shape, self.filters, self.data_format)
        axis = channel_axis(self.data_format)
        channels = None if self.kernel is None else self.kernel.shape[2] * self.groups
        if channels is not None and input_shape[axis] != channels:
            raise ValueError(
                f"The input of layer '{self.name}' must have {channels} channels in its "
                f"{'last' if axis == -1 else 'second'} axis. "
                f"Received: input_shape={input_shape}"
            )
        return shape

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One convolution, and one activation if there is any."""
        return [
            *to_channels_last(self.data_format),
            (Conv2DStep if self.groups == 1 else GroupedConv2DStep)(self, trainable),
            *from_channels_last(self.data_format),
            *activation_steps(self.activation),
        ]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal, unbuilt layer."""
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


class Conv2DStep(ConvolutionStep):
    """Every window is a row of a matrix, which is multiplied by the kernel."""

    runs_on_gpu = True

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, the windows, and the gradients."""
        shape = self.output_shape(input_shape)
        height, width, channels, filters = self._kernel.shape
        rows, elements = math.prod(shape[:3]), height * width * channels
        self._images = self._layer.windows.on(input_shape, buffers.dtype, 0, buffers.device)
        self._product = buffers.device.product
        self._y = buffers.output(shape)
        self._y_matrix = self._y.reshape(rows, filters)
        self._kernel_matrix = self._kernel.value.reshape(elements, filters)
        self._matrix, self._columns = _window_rows(shape, height * width, channels, buffers)
        self._write_y = self._product(self._matrix, self._kernel_matrix, self._y_matrix)
        self._grad: Array | None = None
        if self.has_gradients:
            self._grad_kernel = self._kernel.grad.reshape(elements, filters)
            self._grad_bias = None if self._bias is None else self._bias.grad
        self._grad_x: Array | None = None
        if grad_input:
            self._grad_x = buffers.gradient(input_shape)
            self._grad_images = self._layer.windows.on(
                input_shape, buffers.dtype, 0, buffers.device
            )
            self._grad_matrix, self._grad_columns = _window_rows(
                shape, height * width, channels, buffers
            )

    def forward(self, x: Array) -> Array:
        """Copy the windows out and multiply."""
        padded = self._images.fill(x)
        for column, element in zip(self._columns, self._images.elements(padded), strict=True):
            np.copyto(column, element)
        self._write_y()
        if self._bias is not None:
            np.add(self._y_matrix, self._bias.value, self._y_matrix)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Write the gradients of kernel and bias; return the sum over all windows' gradients."""
        if grad is not self._grad:
            self._bind_gradient(grad)
        if self.has_gradients:
            self._write_grad_kernel()
            if self._grad_bias is not None:
                self._grad_rows.sum(axis=0, out=self._grad_bias)
        if self._grad_x is None:
            return grad
        self._write_grad_matrix()
        total = self._grad_images.empty_like(self._grad_x)
        total.fill(0)
        for column, element in zip(
            self._grad_columns, self._grad_images.elements(total), strict=True
        ):
            np.add(element, column, out=element)
        return self._grad_images.inner(self._grad_x)

    def _bind_gradient(self, grad: Array) -> None:
        """Make the products with `grad`, which is the same array at every step of a plan."""
        self._grad = grad
        self._grad_rows = grad.reshape(self._y_matrix.shape)
        if self.has_gradients:
            self._write_grad_kernel = self._product(
                self._matrix.T, self._grad_rows, self._grad_kernel
            )
        if self._grad_x is not None:
            self._write_grad_matrix = self._product(
                self._grad_rows, self._kernel_matrix.T, self._grad_matrix
            )


def _window_rows(
    shape: Shape, elements: int, channels: int, buffers: Buffers
) -> tuple[Array, list[Array]]:
    """Return a matrix with a row for each window, and its columns by element, as images."""
    images = buffers.empty((*shape[:3], elements, channels))
    matrix = images.reshape(math.prod(shape[:3]), elements * channels)
    return matrix, [images[:, :, :, i] for i in range(elements)]
