"""A fully connected layer that shares its kernel, transposed, with another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn import activations, constraints, initializers, regularizers
from fusednn._serialization import serialize
from fusednn.layers.activation import activation_steps
from fusednn.layers.buffers import Buffers
from fusednn.layers.dense import Dense, DenseStep
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.variable import Variable


class DenseTranspose(Layer):
    """``y = activation(x @ dense.kernel.T + bias)``: the way back of a `Dense` layer.

    The decoder of an autoencoder with tied weights has half the parameters, and less room to learn
    by heart:

    >>> from fusednn.layers import Dense, Input
    >>> from fusednn.models import Sequential
    >>> hidden = Dense(30, "selu")
    >>> model = Sequential([Input((64,)), hidden, DenseTranspose(hidden, "sigmoid")])
    >>> model.output_shape, model.count_params()
    ((None, 64), 2014)

    Parameters
    ----------
    dense : Dense or str
        Whose kernel it is. It is built before this layer, so it comes before it in a model, or is
        in another one. A name is looked up among the layers before this one in the model (as
        configurations have it).
    activation : str, callable object or None
        See `fusednn.activations`; None is linear.
    use_bias : bool
        Whether there is a bias, of as many elements as `dense` has features: this layer's only
        weight.
    bias_initializer, bias_regularizer, bias_constraint
        As of `Dense`.
    **kwargs
        Of `Layer`.

    Notes
    -----
    The kernel is a weight of `dense` and trains where that is a trainable layer of the same model:
    its gradient is then the sum of both layers'. Else it is constant here.

    Keras has no such layer: its files name the class of this package, and Keras needs it in
    `custom_objects`. PyTorch has ``nn.functional.linear(x, weight.T, bias)``.

    Raises
    ------
    TypeError, ValueError
        `dense` is neither, is not there or not built yet, or an input does not have its units.
    """

    def __init__(
        self,
        dense: Dense | str,
        activation: Any = None,
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(dense, (Dense, str)):
            raise TypeError(
                f"`dense` must be a Dense layer, or the name of one. Received: dense={dense!r}"
            )
        super().__init__(**kwargs)
        self.dense = dense
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias_constraint = constraints.get(bias_constraint)
        self.bias: Variable | None = None

    def connect(self, before: Sequence[Layer]) -> None:
        """Look `dense` up among the layers before this one, where it is a name."""
        for layer in before:
            if layer.name == self.dense and isinstance(layer, Dense):
                self.dense = layer

    def _kernel(self) -> Variable:
        if isinstance(self.dense, str):
            raise ValueError(
                f"`dense` of layer '{self.name}' must be the name of a Dense layer before it. "
                f"Received: dense={self.dense!r}"
            )
        if self.dense.kernel is None:
            raise ValueError(
                f"`dense` of layer '{self.name}' must be built before it. "
                f"Received: dense={self.dense!r}"
            )
        return self.dense.kernel

    def build(self, input_shape: BatchShape) -> None:
        """Create the bias."""
        features = self._kernel().shape[0]
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                (features,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        super().build(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: the features of `dense` in place of the last axis."""
        features, units = self._kernel().shape
        if len(input_shape) < 2 or input_shape[-1] != units:
            raise ValueError(
                f"The input of layer '{self.name}' must have {units} features in its last axis, "
                f"the units of its `dense`. Received: input_shape={input_shape}"
            )
        return (*input_shape[:-1], features)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One matmul, and one activation if there is any."""
        if self.has_own_call():
            raise NotImplementedError(
                f"`call` of {type(self).__name__} must not be overridden: the gradient of a shared "
                "kernel needs the steps of `DenseTranspose`."
            )
        step = DenseTransposeStep(self._kernel(), self.bias, trainable)
        return [step, *activation_steps(self.activation)]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal, unbuilt layer; `dense` by its name."""
        return super().get_config() | {
            "dense": self.dense if isinstance(self.dense, str) else self.dense.name,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": serialize(self.bias_initializer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


class DenseTransposeStep(Step):
    """y = x @ kernel.T + bias, for x of any rank, as one matrix product."""

    runs_on_gpu = True

    def __init__(self, kernel: Variable, bias: Variable | None, trainable: bool) -> None:
        self.kernel = kernel
        self.bias = bias
        self.has_gradients = trainable and bias is not None
        #: Whether the kernel trains in the same plan; see `find_shared_kernels`.
        self.kernel_trains = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape with the features in place of the units."""
        return (*input_shape[:-1], self.kernel.shape[0])

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, this layer's share of the kernel's gradient, and grad_x if needed."""
        features, units = self.kernel.shape
        self._kernel = self.kernel.value
        self._add = None if self.bias is None else self.bias.value
        self._y = buffers.output(self.output_shape(input_shape))
        self._y_matrix = self._y.reshape(-1, features)
        self._units = units
        self._product = buffers.device.product
        self._x: Array | None = None
        self._grad: Array | None = None
        self._sum_rows = buffers.device.sum_rows
        self._grad_bias = None
        if self.has_gradients and self.bias is not None:
            self._grad_bias = self.bias.grad
            self._ones = buffers.ones((len(self._y_matrix),))
        if self.kernel_trains:
            self._share = buffers.empty((features, units))
            self._grad_kernel = self.kernel.grad
        self._grad_x = buffers.gradient(input_shape) if grad_input else None

    def forward(self, x: Array) -> Array:
        """Return x @ kernel.T, plus the bias."""
        if x is not self._x:  # only the first layer's ever is another array
            self._x, self._grad = x, None
            self._x_matrix = x.reshape(-1, self._units)
            self._write_y = self._product(self._x_matrix, self._kernel.T, self._y_matrix)
        self._write_y()
        if self._add is not None:
            np.add(self._y_matrix, self._add, self._y_matrix)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Write the gradient of the bias and the share of the kernel's; return grad @ kernel."""
        if grad is not self._grad:
            self._bind_gradient(grad)
        if self._grad_bias is not None:
            self._sum_rows(self._grad_matrix, self._ones, self._grad_bias)
        if self.kernel_trains:
            self._write_share()
        if self._grad_x is None:
            return grad
        self._write_grad_x()
        return self._grad_x

    def _bind_gradient(self, grad: Array) -> None:
        """Make the products with `grad`, which is the same array at every step of a plan."""
        self._grad = grad
        self._grad_matrix = grad.reshape(self._y_matrix.shape)
        if self.kernel_trains:
            self._write_share = self._product(self._grad_matrix.T, self._x_matrix, self._share)
        if self._grad_x is not None:
            self._write_grad_x = self._product(
                self._grad_matrix, self._kernel, self._grad_x.reshape(-1, self._units)
            )

    def add_shares(self) -> None:
        """Add the share to the kernel's gradient, which the other layer has written by now."""
        if self.kernel_trains:
            np.add(self._grad_kernel, self._share, self._grad_kernel)


def find_shared_kernels(steps: Sequence[Step]) -> None:
    """Tell the steps whose kernel trains in the same list of steps."""
    kernels = [s.kernel for s in steps if isinstance(s, DenseStep) and s.has_gradients]
    for step in steps:
        if isinstance(step, DenseTransposeStep):
            step.kernel_trains = any(step.kernel is kernel for kernel in kernels)
