"""All axes but the first become one."""

from __future__ import annotations

import math
from typing import Any

from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step


class Flatten(Layer):
    """Reshape ``(batch, a, b, ...)`` to ``(batch, a * b * ...)``; ``(batch,)`` to ``(batch, 1)``.

    Parameters
    ----------
    data_format : {None, "channels_last"}
        Accepted for Keras' sake; axes keep their order, so "channels_first" is refused.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        if data_format not in (None, "channels_last"):
            raise ValueError(
                "`data_format` must be None or 'channels_last'. "
                f"Received: data_format={data_format!r}"
            )
        super().__init__(**kwargs)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: the batch axis, and the product of the others."""
        batch, *dims = input_shape
        known = [dim for dim in dims if dim is not None]
        return (batch, math.prod(known) if len(known) == len(dims) else None)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step: a view, no data moves."""
        return [FlattenStep()]


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

    def forward(self, x: Array) -> Array:
        """Return the view."""
        return x.reshape(self._output_shape)

    def backward(self, grad: Array) -> Array:
        """Return the gradient in the input's shape."""
        return grad.reshape(self._input_shape)
