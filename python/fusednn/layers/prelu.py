"""The rectifier that learns its slope."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn import constraints, initializers, regularizers
from fusednn._serialization import serialize
from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.variable import Variable


class PReLU(Layer):
    """``y = x if x > 0 else alpha * x``, with a learned alpha (He et al. 2015).

    Gradients: ``grad_x = grad`` where x > 0, else ``alpha * grad``; ``grad_alpha`` is the sum of
    ``min(x, 0) * grad`` over the batch and the shared axes.

    Parameters
    ----------
    alpha_initializer
        See `fusednn.initializers`; zeros by default, as in Keras (PyTorch: 0.25).
    alpha_regularizer
        A penalty that is added to the loss; see `fusednn.regularizers`.
    alpha_constraint
        Applied after each step of the optimizer; see `fusednn.constraints`.
    shared_axes : int or sequence of int, optional
        Axes along which alpha is the same, counted with the batch axis, 0, which always is. Images
        of shape (height, width, channels) with ``shared_axes=[1, 2]`` have one slope a channel;
        PyTorch's default is one for all.
    **kwargs
        Of `Layer`.

    Notes
    -----
    alpha has the shape of a sample, 1 along shared axes.
    """

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Sequence[int] | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        self.shared_axes = _axes(shared_axes)
        self.alpha: Variable | None = None

    def build(self, input_shape: BatchShape) -> None:
        """Create alpha."""
        shape: list[int] = []
        for axis, length in enumerate(input_shape[1:], 1):
            if axis in self.shared_axes:
                shape.append(1)
            elif length is None:
                raise ValueError(
                    f"Axis {axis} of the input of layer '{self.name}' must have a known length, or "
                    f"be one of `shared_axes`. Received: input_shape={input_shape}"
                )
            else:
                shape.append(length)
        wrong = [axis for axis in self.shared_axes if not 0 < axis < len(input_shape)]
        if wrong:
            raise ValueError(
                f"`shared_axes` of layer '{self.name}' must be axes of its input other than the "
                f"batch axis, 0. Received: {wrong} for input_shape={input_shape}"
            )
        self.alpha = self.add_weight(
            "alpha",
            tuple(shape),
            self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        super().build(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: that of the input."""
        if self.alpha is not None and (
            len(self.alpha.shape) != len(input_shape) - 1
            or any(
                axis not in self.shared_axes and length != input_shape[axis]
                for axis, length in enumerate(self.alpha.shape, 1)
            )
        ):
            raise ValueError(
                f"The input of layer '{self.name}' must fit alpha, of shape {self.alpha.shape}. "
                f"Received: input_shape={input_shape}"
            )
        return input_shape

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        assert self.alpha is not None
        return [LearnedSlopeStep(self.alpha, trainable)]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal, unbuilt layer."""
        return super().get_config() | {
            "alpha_initializer": serialize(self.alpha_initializer),
            "alpha_regularizer": regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": constraints.serialize(self.alpha_constraint),
            "shared_axes": list(self.shared_axes) or None,
        }


class LearnedSlopeStep(Step):
    """y = max(x, 0) + alpha * min(x, 0)."""

    runs_on_gpu = True

    def __init__(self, alpha: Variable, trainable: bool) -> None:
        self.alpha = alpha
        self.has_gradients = trainable

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, the negative part of x, its mask, and a product."""
        self._y = buffers.output(input_shape)
        self._low = buffers.empty(input_shape)
        self._below = buffers.empty(input_shape, np.bool_)
        shape = (1, *self.alpha.shape)
        self._alpha = self.alpha.value.reshape(shape)
        if self.has_gradients:
            self._product = buffers.temporary(input_shape)
            self._grad_alpha = self.alpha.grad.reshape(shape)
            lengths = zip(shape, input_shape, strict=True)
            self._summed = (0, *(i for i, (a, n) in enumerate(lengths) if i and a == 1 != n))

    def forward(self, x: Array) -> Array:
        """Return y."""
        np.less_equal(x, 0, out=self._below)
        np.minimum(x, 0, out=self._low)
        np.maximum(x, 0, out=self._y)
        # The product first goes where it is only needed for a moment.
        product = self._product if self.has_gradients else self._low
        np.multiply(self._low, self._alpha, out=product)
        np.add(self._y, product, out=self._y)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Write the gradient of alpha; return grad_x, in the place of `grad`."""
        if self.has_gradients:
            np.multiply(grad, self._low, out=self._product)
            self._product.sum(axis=self._summed, out=self._grad_alpha, keepdims=True)
        np.multiply(grad, self._alpha, out=self._low)
        np.copyto(grad, self._low, where=self._below)
        return grad


def _axes(shared_axes: Sequence[int] | int | None) -> tuple[int, ...]:
    if shared_axes is None:
        return ()
    given = shared_axes if isinstance(shared_axes, (tuple, list)) else (shared_axes,)
    try:
        return tuple(operator.index(axis) for axis in given)
    except TypeError:
        raise TypeError(
            "`shared_axes` must be an integer or a list of integers. "
            f"Received: shared_axes={shared_axes!r}"
        ) from None
