"""Adam (Kingma and Ba, 2014), AMSGrad (Reddi, Kale and Kumar, 2018), AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack, cast

from fusednn import ops
from fusednn._arguments import check_number
from fusednn.optimizers.base import Optimizer
from fusednn.optimizers.options import Array, CommonOptions, LearningRate, OptimizerOptions, State


class Adam(Optimizer):
    """Adam: ``p -= lr * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``.

    ``m = beta_1 * m + (1 - beta_1) * g; v = beta_2 * v + (1 - beta_2) * g**2``. `epsilon` is the
    "epsilon hat" of the paper's efficient form, as in Keras; PyTorch adds its epsilon, 1e-8, to
    the bias-corrected root. AMSGrad divides by the largest v so far.

    Parameters
    ----------
    learning_rate
        See `Optimizer`.
    beta_1, beta_2
        Decay of the averages of g and of g**2, in [0, 1).
    epsilon
        >= 0.
    amsgrad
        Use AMSGrad.
    **options
        See `Optimizer`.
    """

    config_names = ("beta_1", "beta_2", "epsilon", "amsgrad")
    unsigned_states = frozenset({"velocity"})

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = check_number("beta_1", beta_1, minimum=0, below=1)
        self.beta_2 = check_number("beta_2", beta_2, minimum=0, below=1)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)
        self.amsgrad = bool(amsgrad)
        if self.amsgrad:
            self._refuse_quantized_states("amsgrad")

    def initial_states(self) -> dict[str, float]:
        """See `Optimizer.initial_states`."""
        states = {"momentum": 0.0, "velocity": 0.0}
        return states | {"velocity_hat": 0.0} if self.amsgrad else states

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """See `Optimizer.step`."""
        return ops.adam_step(
            params,
            grads,
            states["momentum"],
            states["velocity"],
            beta1=self.beta_1,
            beta2=self.beta_2,
            eps=self.epsilon,
            amsgrad=self.amsgrad,
            max_exp_avg_sqs=cast(
                "list[Array] | None", states.get("velocity_hat")
            ),  # never quantized
            **options,
        )


class AdamW(Adam):
    """Adam with a weight decay by default (Loshchilov and Hutter, 2019).

    The decay is decoupled in every optimizer here; this one only has it switched on. PyTorch's
    default is 0.01.

    Parameters
    ----------
    weight_decay
        Decay per unit of learning rate, >= 0; not None.
    learning_rate, beta_1, beta_2, epsilon, amsgrad, **options
        See `Adam`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            weight_decay=check_number("weight_decay", weight_decay, minimum=0),
            **options,
        )
