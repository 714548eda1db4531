"""What a layer contributes to a plan: one operation on preallocated arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn.layers.buffers import Buffers

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]


class Step:
    """One operation, bound to arrays of one batch size.

    A layer makes its steps (`Layer.steps`), a plan fuses neighbours, then binds each once, in
    order, and calls `forward` and `backward` per batch. A step belongs to one plan; weights and
    their gradients belong to the layer.
    """

    #: Whether `backward` writes the gradients of weights.
    has_gradients = False
    #: Name of the layer, for messages; a plan sets it.
    owner = ""
    #: Number of the layer in the plan, which sets it.
    place = -1
    #: Whether the step is written for GPUs, too, by the rules of CONTRIBUTING.md.
    runs_on_gpu = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape that `forward` returns for this shape of x."""
        return input_shape

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take the arrays to write to; `grad_input` is False where nobody needs grad_x."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Do what the host has to do for each batch before `forward`; by default nothing."""

    def forward(self, x: Array) -> Array:
        """Return y; x must stay unchanged until `backward`."""
        raise NotImplementedError

    def undo(self) -> None:
        """Put back what the latest `forward` changed besides y; by default nothing."""

    def backward(self, grad: Array) -> Array:
        """Write the gradients of weights; return grad_x, which may overwrite `grad`.

        Bound without `grad_input`, the returned array has no meaning.
        """
        raise NotImplementedError

    def add_shares(self) -> None:
        """Add to gradients that other steps' `backward` writes, after all; by default nothing."""
