"""Gradient descent, with momentum and Nesterov's look-ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from fusednn import ops
from fusednn._arguments import check_number
from fusednn.optimizers.base import Optimizer
from fusednn.optimizers.options import Array, LearningRate, OptimizerOptions, State


class SGD(Optimizer):
    """Gradient descent: ``p -= lr * g``; with momentum ``m = momentum * m - lr * g; p += m``.

    Nesterov: ``p += momentum * m - lr * g``. The learning rate is inside the buffer, as in Keras,
    so that a change of it fades in; PyTorch multiplies ``b = momentum * b + g`` by it afterwards.

    Parameters
    ----------
    learning_rate
        See `Optimizer`.
    momentum
        In [0, 1]; 0 keeps no buffer.
    nesterov
        Take the gradient step from the point that momentum leads to. No effect at momentum 0.
    **options
        See `Optimizer`.
    """

    config_names = ("momentum", "nesterov")

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)
        self.nesterov = bool(nesterov)

    def initial_states(self) -> dict[str, float]:
        """See `Optimizer.initial_states`."""
        return {"momentum": 0.0} if self.momentum else {}

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """See `Optimizer.step`."""
        return ops.sgd_step(
            params,
            grads,
            states.get("momentum"),
            momentum=self.momentum,
            nesterov=self.nesterov,
            **options,
        )
