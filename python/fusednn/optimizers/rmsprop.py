"""RMSprop (Tieleman and Hinton, 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack, cast

from fusednn import ops
from fusednn._arguments import check_number
from fusednn.optimizers.base import Optimizer
from fusednn.optimizers.options import Array, LearningRate, OptimizerOptions, State


class RMSprop(Optimizer):
    """RMSprop: ``v = rho * v + (1 - rho) * g**2; p -= lr * g / sqrt(v + epsilon)``.

    Centered: ``a = rho * a + (1 - rho) * g`` and ``sqrt(v - a**2 + epsilon)``. With momentum:
    ``m = momentum * m + lr * g / sqrt(...); p -= m``. PyTorch has `epsilon` outside the root, rho
    (there `alpha`) 0.99, and multiplies by the learning rate after the momentum.

    Parameters
    ----------
    learning_rate
        See `Optimizer`.
    rho
        Decay of the averages, in [0, 1].
    momentum
        In [0, 1]; 0 keeps no buffer.
    epsilon
        >= 0.
    centered
        Divide by an estimate of the standard deviation.
    **options
        See `Optimizer`.
    """

    config_names = ("rho", "momentum", "epsilon", "centered")
    unsigned_states = frozenset({"velocity"})

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = check_number("rho", rho, minimum=0, maximum=1)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)
        self.centered = bool(centered)
        if self.centered:
            self._refuse_quantized_states("centered")

    def initial_states(self) -> dict[str, float]:
        """See `Optimizer.initial_states`."""
        states = {"velocity": 0.0}
        if self.momentum:
            states["momentum"] = 0.0
        if self.centered:
            states["average_gradient"] = 0.0
        return states

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """See `Optimizer.step`."""
        return ops.rmsprop_step(
            params,
            grads,
            states["velocity"],
            rho=self.rho,
            eps=self.epsilon,
            momentum=self.momentum,
            momentum_buffers=states.get("momentum"),
            centered=self.centered,
            # Never quantized.
            grad_avgs=cast("list[Array] | None", states.get("average_gradient")),
            **options,
        )
