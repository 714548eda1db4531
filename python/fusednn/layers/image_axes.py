"""Images whose channels lie before their rows: they are turned around for the steps, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import BatchShape
from fusednn.layers.step import Array, Shape, Step

_NAMES = {
    "channels_last": "(batch, rows, columns, channels)",
    "channels_first": "(batch, channels, rows, columns)",
}


def check_data_format(data_format: Any) -> str:
    """Return "channels_last", for which None stands, too, or "channels_first"."""
    if data_format is not None and data_format not in list(_NAMES):
        raise ValueError(
            "`data_format` must be 'channels_last' or 'channels_first'. "
            f"Received: data_format={data_format!r}"
        )
    return str(data_format or "channels_last")


def channel_axis(data_format: str) -> int:
    """Return the axis of an image's channels."""
    return 1 if data_format == "channels_first" else -1


def check_image(name: str, shape: BatchShape, data_format: str) -> None:
    """Raise ValueError where the input of layer `name` does not have the axes of images."""
    if len(shape) != 4:
        raise ValueError(
            f"The input of layer '{name}' must have the axes {_NAMES[data_format]}. "
            f"Received: input_shape={shape}"
        )


def channels_last(shape: BatchShape, data_format: str) -> BatchShape:
    """Return a shape of `data_format` with the channels in the last axis."""
    return (shape[0], *shape[2:], shape[1]) if data_format == "channels_first" else tuple(shape)


def in_format(shape: BatchShape, data_format: str) -> BatchShape:
    """Return a shape with channels in the last axis as one of `data_format`."""
    return (shape[0], shape[-1], *shape[1:-1]) if data_format == "channels_first" else tuple(shape)


def to_channels_last(data_format: str) -> list[Step]:
    """Return the step before those that want the channels in the last axis, if it needs one."""
    return [MoveAxis(1, -1)] if data_format == "channels_first" else []


def from_channels_last(data_format: str) -> list[Step]:
    """Return the step after them."""
    return [MoveAxis(-1, 1)] if data_format == "channels_first" else []


class MoveAxis(Step):
    """A copy with one axis in another place; of arrays of two axes or fewer, as they are."""

    runs_on_gpu = True

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target

    def _axes(self, rank: int) -> list[int]:
        axes = list(range(rank))
        if rank > 2:
            moved = axes.pop(self._source)
            axes.insert(self._target % rank, moved)
        return axes

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape with the axis in its new place."""
        return tuple(input_shape[axis] for axis in self._axes(len(input_shape)))

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y and grad_x."""
        self._order = self._axes(len(input_shape))
        self._y = buffers.output(self.output_shape(input_shape))
        self._grad_x = buffers.gradient(input_shape) if grad_input else None

    def forward(self, x: Array) -> Array:
        """Return the copy."""
        np.copyto(self._y, x.transpose(self._order))
        return self._y

    def backward(self, grad: Array) -> Array:
        """Return the gradient with its axes as those of x."""
        if self._grad_x is None:
            return grad
        np.copyto(self._grad_x.transpose(self._order), grad)
        return self._grad_x
