"""Penalties on the outputs of layers."""

from __future__ import annotations

from typing import Any

from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.regularizers import L1L2, Regularizer


class ActivityRegularization(Layer):
    """The identity; adds ``(l1 * sum(abs(x)) + l2 * sum(x**2)) / batch size`` to the loss.

    Parameters
    ----------
    l1, l2 : float
        At least 0.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=L1L2(l1, l2), **kwargs)
        self.l1 = float(l1)
        self.l2 = float(l2)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        config = super().get_config() | {"l1": self.l1, "l2": self.l2}
        del config["activity_regularizer"]
        return config


class ActivityStep(Step):
    """The identity, with a penalty.

    Attributes
    ----------
    penalty : float
        Of the latest batch; found at once, as later steps of an inference overwrite x. On a GPU
        the host waits for it, so that this forward pass cannot be captured.
    """

    runs_on_gpu = True

    def __init__(self, regularizer: Regularizer) -> None:
        self._regularizer = regularizer
        self.penalty = 0.0

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take an array for the regularizer's intermediate results."""
        self._scale = 1 / max(input_shape[0], 1)
        self._work = buffers.empty(input_shape)

    def forward(self, x: Array) -> Array:
        """Return x."""
        self._x = x
        self.penalty = self._scale * self._regularizer.penalty(x, self._work)
        return x

    def backward(self, grad: Array) -> Array:
        """Add the penalty's gradient to `grad`."""
        self._regularizer.add_gradient(self._x, grad, self._scale, self._work)
        return grad
