"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fusednn import activations, constraints, initializers, regularizers
from fusednn._arguments import refuse_absent
from fusednn._serialization import serialize
from fusednn.devices import CPU
from fusednn.layers.activation import activation_steps
from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.layers.weight_arguments import ABSENT_OF_KERNELS
from fusednn.variable import Variable


class Dense(Layer):
    """``y = activation(x @ kernel + bias)`` over the last axis.

    Parameters
    ----------
    units : int
        Length of the output's last axis.
    activation : str, callable object or None
        See `fusednn.activations`; None is linear.
    use_bias : bool
    kernel_initializer, bias_initializer
        See `fusednn.initializers`; Glorot uniform and zeros by default, as in Keras.
    kernel_regularizer, bias_regularizer
        Penalties that are added to the loss; see `fusednn.regularizers`.
    kernel_constraint, bias_constraint
        Applied after each step of the optimizer; see `fusednn.constraints`.
    **kwargs
        Of `Layer`: `name`, `trainable`, `dtype`, `activity_regularizer`, `input_shape`,
        `input_dim`.

    Notes
    -----
    x has shape ``(batch, ..., features)``, kernel ``(features, units)``, bias ``(units,)``.
    The kernel is the transpose of PyTorch's ``Linear.weight``.

    Gradients: ``grad_kernel = x.T @ grad``, ``grad_bias = sum(grad)`` over all but the last axis,
    ``grad_x = grad @ kernel.T``.

    Directly before a trainable `BatchNormalization` over the last axis, the bias has no effect in
    training, because the batch mean takes it away again: a model then leaves it out, adds it to
    the moving mean instead, and gives it the exact gradient, 0. Weight decay acts on it as on all
    others. In Keras its gradient is rounding noise, which Adam scales up to whole steps: there the
    bias wanders, and the moving mean with it, while outputs in inference stay the same.

    Raises
    ------
    ValueError
        If `units` is not a positive integer, or an input does not have the kernel's features.
    """

    def __init__(
        self,
        units: int,
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
        if isinstance(units, bool) or not isinstance(units, (int, np.integer)) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units}")
        refuse_absent(kwargs, ABSENT_OF_KERNELS)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = int(units)
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
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ValueError(
                f"The input of layer '{self.name}' must have a batch axis and a last axis of known "
                f"length. Received: input_shape={input_shape}"
            )
        self.kernel = self.add_weight(
            "kernel",
            (input_shape[-1], self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                (self.units,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        super().build(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: `units` in place of the last axis."""
        if self.kernel is not None and input_shape[-1] != self.kernel.shape[0]:
            raise ValueError(
                f"The input of layer '{self.name}' must have {self.kernel.shape[0]} features in "
                f"its last axis. Received: input_shape={input_shape}"
            )
        return (*input_shape[:-1], self.units)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One matmul, and one activation if there is any."""
        return [DenseStep(self, trainable), *activation_steps(self.activation)]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal, unbuilt layer."""
        return super().get_config() | {
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


class DenseStep(Step):
    """y = x @ kernel + bias, for x of any rank, as one matrix product."""

    runs_on_gpu = True

    def __init__(self, layer: Dense, trainable: bool) -> None:
        assert layer.kernel is not None
        self.kernel = layer.kernel
        self.bias = layer.bias
        self.has_gradients = trainable
        self._skip_bias = False

    def give_bias_away(self) -> Array | None:
        """Leave the bias to the normalisation that follows, and return it."""
        self._skip_bias = True
        return None if self.bias is None else self.bias.value

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape with the units in place of the features."""
        return (*input_shape[:-1], self.kernel.shape[1])

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, and for grad_x if needed."""
        features, units = self.kernel.shape
        self._kernel = self.kernel.value
        self._add = None if self.bias is None or self._skip_bias else self.bias.value
        self._y = buffers.output(self.output_shape(input_shape))
        self._y_matrix = self._y.reshape(-1, units)
        self._product = buffers.device.product
        self._both = buffers.device.both
        self._x: Array | None = None
        self._grad: Array | None = None
        if self.has_gradients:
            self._grad_kernel = self.kernel.grad
            self._grad_bias = None if self.bias is None else self.bias.grad
            rows = len(self._y_matrix)
            self._ones = buffers.ones((rows,))
            self._sum_rows = buffers.device.sum_rows
        self._grad_x: Array | None = None
        if grad_input:
            self._grad_x = buffers.gradient(input_shape)
            self._multiply = InputGradient(
                self._kernel, self._grad_x.reshape(-1, features), buffers
            )

    def forward(self, x: Array) -> Array:
        """Return x @ kernel, plus the bias."""
        if x is not self._x:  # only the first layer's ever is another array
            x_matrix = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
            self._write_y = self._product(x_matrix, self._kernel, self._y_matrix)
            self._x, self._x_transposed, self._grad = x, x_matrix.T, None
        self._write_y()
        if self._add is not None:
            np.add(self._y_matrix, self._add, self._y_matrix)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Write the gradients of kernel and bias; return grad @ kernel.T."""
        if grad is not self._grad:
            self._bind_gradient(grad)
        self._write_gradients()
        if self.has_gradients and self._grad_bias is not None:
            if self._add is not None:
                self._sum_rows(self._grad_matrix, self._ones, self._grad_bias)
            else:
                self._grad_bias.fill(0)
        return grad if self._grad_x is None else self._grad_x

    def _bind_gradient(self, grad: Array) -> None:
        """Make the products with `grad`, which is the same array at every step of a plan."""
        self._grad = grad
        self._grad_matrix = grad if grad.ndim == 2 else grad.reshape(self._y_matrix.shape)
        products = []
        if self.has_gradients:
            products += [self._product(self._x_transposed, self._grad_matrix, self._grad_kernel)]
        if self._grad_x is not None:
            products += [self._multiply.bound(self._grad_matrix)]
        self._write_gradients = self._both(*products) if len(products) == 2 else products[0]


#: Up to this many rows BLAS spends more time on reading a transposed kernel than on the product.
_FEW_ROWS = 16
#: From so many elements of the kernel on, and so many a row, that is worth two transpositions.
_LARGE_KERNEL = 1 << 16
_LARGE_KERNEL_PER_ROW = 1 << 14


class InputGradient:
    """grad_x = grad @ kernel.T, written in the form that BLAS computes fastest.

    OpenBLAS reads a matrix row by row; of a large transposed one it makes a copy first, which few
    rows of `grad` do not pay for. Then ``grad_x.T = kernel @ grad.T`` with two transposed copies of
    the small matrices takes 0.5 to 0.95 of the time; of a kernel of 128 x 128 1.2 times as long.
    """

    def __init__(self, kernel: Array, grad_x: Array, buffers: Buffers) -> None:
        rows, (features, units) = len(grad_x), kernel.shape
        self._kernel_transposed = kernel.T
        self._grad_x = grad_x
        self._product = buffers.device.product
        # cuBLAS reads a transposed matrix as fast as another one.
        large = kernel.size >= max(_LARGE_KERNEL, rows * _LARGE_KERNEL_PER_ROW)
        self._turned = buffers.device is CPU and 1 < rows <= _FEW_ROWS and large
        if self._turned:
            self._grad_turned = buffers.temporary((units, rows))
            self._grad_x_turned = buffers.temporary((features, rows))
            self._grad_x_back = self._grad_x_turned.T
            self._write = self._product(kernel, self._grad_turned, self._grad_x_turned)

    def bound(self, grad: Array) -> Callable[[], None]:
        """Return a function that writes grad_x of this array each time that it is called."""
        if self._turned:
            return partial(self._write_turned, grad.T)
        return self._product(grad, self._kernel_transposed, self._grad_x)

    def _write_turned(self, grad_transposed: Array) -> None:
        np.copyto(self._grad_turned, grad_transposed)
        self._write()
        np.copyto(self._grad_x, self._grad_x_back)
