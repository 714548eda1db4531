"""AdaGrad (Duchi, Hazan and Singer, 2011)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from fusednn import ops
from fusednn._arguments import check_number
from fusednn.optimizers.base import Optimizer
from fusednn.optimizers.options import Array, LearningRate, OptimizerOptions, State


class Adagrad(Optimizer):
    """Adagrad: ``h += g**2; p -= lr * g / sqrt(h + epsilon)``.

    PyTorch has `epsilon` outside the root, 1e-10, and starts from h = 0.

    Parameters
    ----------
    learning_rate
        See `Optimizer`.
    initial_accumulator_value
        Initial value of h, >= 0.
    epsilon
        >= 0.
    **options
        See `Optimizer`.
    """

    config_names = ("initial_accumulator_value", "epsilon")
    unsigned_states = frozenset({"accumulator"})

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = check_number(
            "initial_accumulator_value", initial_accumulator_value, minimum=0
        )
        self.epsilon = check_number("epsilon", epsilon, minimum=0)

    def initial_states(self) -> dict[str, float]:
        """See `Optimizer.initial_states`."""
        return {"accumulator": self.initial_accumulator_value}

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """See `Optimizer.step`."""
        return ops.adagrad_step(params, grads, states["accumulator"], eps=self.epsilon, **options)
