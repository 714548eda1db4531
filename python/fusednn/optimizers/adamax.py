"""Adamax (Kingma and Ba, 2014, section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack, cast

from fusednn import ops
from fusednn._arguments import check_number
from fusednn.optimizers.base import Optimizer
from fusednn.optimizers.options import Array, LearningRate, OptimizerOptions, State


class Adamax(Optimizer):
    """Adamax: ``p -= lr / (1 - beta_1**t) * m / (u + epsilon)``.

    ``m = beta_1 * m + (1 - beta_1) * g; u = max(beta_2 * u, abs(g))``. PyTorch adds its epsilon,
    1e-8, to ``abs(g)`` instead.

    Parameters
    ----------
    learning_rate
        See `Optimizer`.
    beta_1, beta_2
        Decay of the average of g and of the largest ``abs(g)``, in [0, 1).
    epsilon
        >= 0.
    **options
        See `Optimizer`; not `quantized_states`.
    """

    config_names = ("beta_1", "beta_2", "epsilon")

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
        if self.quantized_states:
            raise ValueError(
                "`quantized_states` must be False for Adamax, whose maximum would keep every error "
                "of 8 bits. Received: quantized_states=True"
            )

    def initial_states(self) -> dict[str, float]:
        """See `Optimizer.initial_states`."""
        return {"momentum": 0.0, "norm": 0.0}

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """See `Optimizer.step`."""
        return ops.adamax_step(
            params,
            grads,
            states["momentum"],
            cast("list[Array]", states["norm"]),  # never quantized
            beta1=self.beta_1,
            beta2=self.beta_2,
            eps=self.epsilon,
            **options,
        )
