"""Nadam (Dozat, 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from fusednn import ops
from fusednn._arguments import check_number
from fusednn.optimizers.base import Optimizer
from fusednn.optimizers.options import Array, LearningRate, OptimizerOptions, State


class Nadam(Optimizer):
    """Nadam: Adam, with the gradient's own share of the next momentum taken at once.

    ``p -= lr * (u' * m / (1 - P * u') + (1 - u) * g / (1 - P)) / (sqrt(v / c) + epsilon)`` with
    ``c = 1 - beta_2**t``, m and v as in `Adam`, ``u = u_t`` and ``u' = u_(t + 1)`` of
    ``u_t = beta_1 * (1 - 0.96**t / 2)``, and P the product of ``u_1`` to ``u_t``. PyTorch's
    `NAdam` has ``0.96**(t * momentum_decay)``, with 0.004 by default.

    Parameters
    ----------
    learning_rate
        See `Optimizer`.
    beta_1, beta_2
        Decay of the averages of g and of g**2, in [0, 1).
    epsilon
        >= 0.
    **options
        See `Optimizer`.
    """

    config_names = ("beta_1", "beta_2", "epsilon")
    unsigned_states = frozenset({"velocity"})

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = check_number("beta_1", beta_1, minimum=0, below=1)
        self.beta_2 = check_number("beta_2", beta_2, minimum=0, below=1)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)

    def initial_states(self) -> dict[str, float]:
        """See `Optimizer.initial_states`."""
        return {"momentum": 0.0, "velocity": 0.0}

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """See `Optimizer.step`."""
        return ops.nadam_step(
            params,
            grads,
            states["momentum"],
            states["velocity"],
            beta1=self.beta_1,
            beta2=self.beta_2,
            eps=self.epsilon,
            **options,
        )
