"""The same elements in another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fusednn.layers.flatten import FlattenStep
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Shape, Step


class Reshape(Layer):
    """Give each sample another shape, in C order.

    Parameters
    ----------
    target_shape : sequence of int
        Without the batch axis; one entry may be -1: what is left.
    **kwargs
        Of `Layer`.

    Raises
    ------
    ValueError
        If an entry is neither positive nor -1, or a sample does not have the elements.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        target = tuple(int(n) for n in target_shape)
        if any(n < 1 and n != -1 for n in target) or target.count(-1) > 1:
            raise ValueError(
                "`target_shape` must hold positive integers, and -1 at most once. "
                f"Received: target_shape={tuple(target_shape)}"
            )
        super().__init__(**kwargs)
        self.target_shape = target

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: the batch axis, and `target_shape`."""
        batch, *dims = input_shape
        known = math.prod(n for n in self.target_shape if n != -1)
        if any(n is None for n in dims):
            return (batch, *(None if n == -1 else n for n in self.target_shape))
        size = math.prod(n for n in dims if n is not None)
        rest = size // known
        if rest * known != size or (rest != 1 and -1 not in self.target_shape):
            raise ValueError(
                f"The samples of layer '{self.name}' must have the elements of `target_shape`, "
                f"{self.target_shape}. Received: input_shape={input_shape}"
            )
        return (batch, *(rest if n == -1 else n for n in self.target_shape))

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step: a view, no data moves."""
        return [ReshapeStep(self)]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"target_shape": self.target_shape}


class ReshapeStep(FlattenStep):
    """A view of the same memory in both directions."""

    def __init__(self, layer: Reshape) -> None:
        self._layer = layer

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape that the layer gives."""
        dims = self._layer.compute_output_shape(input_shape)
        return tuple(n for n in dims if n is not None)
