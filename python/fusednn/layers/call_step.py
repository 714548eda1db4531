"""Layers that the user writes, with a `call` of their own, as steps of a plan."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.layers.buffers import Buffers
from fusednn.layers.step import Array, Shape, Step

if TYPE_CHECKING:
    from fusednn.layers.layer import Layer


class CallStep(Step):
    """`Layer.call` and `Layer.backward`; they allocate what they like, and run on the CPU."""

    def __init__(self, layer: Layer, *, training: bool, trainable: bool) -> None:
        self._layer = layer
        self._options = {"training": training} if _takes_training(layer) else {}
        self.has_gradients = trainable and any(v.trainable for v in layer.weights)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape that the layer says it gives."""
        return tuple(n for n in self._layer.compute_output_shape(input_shape) if n is not None)

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Remember the shapes."""
        self._input_shape = input_shape
        self._output_shape = self.output_shape(input_shape)
        self._dtype = buffers.dtype

    def forward(self, x: Array) -> Array:
        """Return what `call` returns, of the layer's dtype."""
        returned = self._layer.call(x, **self._options)
        self._only_super = self._layer.call_is_only_super(x, returned)
        y = self._array(returned, "call")
        if y.shape != self._output_shape:
            raise ValueError(
                f"`call` of layer '{self._layer.name}' must return an array of the shape that "
                f"`compute_output_shape` says, {self._output_shape}. Received: shape {y.shape}"
            )
        return y

    def backward(self, grad: Array) -> Array:
        """Return what `backward` returns."""
        if self._layer.inherits_backward() and not self._only_super:
            raise NotImplementedError(
                f"{type(self._layer).__name__} must define `backward`: its `call` does more than "
                "return `super().call(x, training)`, and gradients are written by hand."
            )
        grad_x = self._array(self._layer.backward(grad), "backward")
        if grad_x.shape != self._input_shape:
            raise ValueError(
                f"`backward` of layer '{self._layer.name}' must return the gradient of its input, "
                f"of shape {self._input_shape}. Received: shape {grad_x.shape}"
            )
        return grad_x

    def _array(self, returned: Any, method: str) -> Array:
        try:
            return np.ascontiguousarray(returned, dtype=self._dtype)
        except (TypeError, ValueError):
            # As of a gradient of the input beside those of the weights.
            raise TypeError(
                f"`{method}` of layer '{self._layer.name}' must return an array; gradients of "
                f"weights go to their `grad`. Received: {type(returned).__name__}"
            ) from None


def shape_of_call(layer: Layer, dims: tuple[int | None, ...]) -> tuple[int, ...]:
    """Shape of a sample that `call` returns for zeros of the shape `dims`."""
    known = tuple(n for n in dims if n is not None)
    if len(known) < len(dims):
        raise ValueError(
            f"`compute_output_shape` of layer '{layer.name}' must be defined where axes have no "
            f"known length. Received: an input with samples of shape {dims}"
        )
    options = {"training": False} if _takes_training(layer) else {}
    return np.shape(layer.call(np.zeros((1, *known), layer.dtype), **options))[1:]


def _takes_training(layer: Layer) -> bool:
    parameters = inspect.signature(layer.call).parameters
    return "training" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )
