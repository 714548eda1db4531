"""All axes but the first become one."""

from __future__ import annotations

import math
from typing import Any

from fusednn.layers.buffers import Buffers
from fusednn.layers.image_axes import check_data_format, to_channels_last
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step


class Flatten(Layer):
    """Reshape ``(batch, a, b, ...)`` to ``(batch, a * b * ...)``; ``(batch,)`` to ``(batch, 1)``.

    Parameters
    ----------
    data_format : {None, "channels_last", "channels_first"}
        "channels_first": the second axis is the last one in the order of the result, so that it is
        that of images with their channels in the last axis. Else axes keep their order.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: the batch axis, and the product of the others."""
        batch, *dims = input_shape
        known = [dim for dim in dims if dim is not None]
        return (batch, math.prod(known) if len(known) == len(dims) else None)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step: a view, no data moves; before it a copy with the channels in the last axis."""
        return [*to_channels_last(self.data_format), FlattenStep()]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"data_format": self.data_format}


class FlattenStep(Step):
    """A view of the same memory in both directions."""

    runs_on_gpu = True

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape with one axis for all features."""
        return (input_shape[0], math.prod(input_shape[1:]))

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Remember the shapes."""
        self._input_shape = input_shape
        self._output_shape = self.output_shape(input_shape)
        self._x: Array | None = None
        self._grad: Array | None = None

    def forward(self, x: Array) -> Array:
        """Return the view: the same object of the same array, to which neighbours bind products."""
        if x is not self._x:
            self._x, self._y = x, x.reshape(self._output_shape)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Return the gradient in the input's shape."""
        if grad is not self._grad:
            self._grad, self._grad_x = grad, grad.reshape(self._input_shape)
        return self._grad_x
