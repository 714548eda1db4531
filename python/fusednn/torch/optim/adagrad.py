"""AdaGrad (Duchi, Hazan and Singer, 2011)."""

from __future__ import annotations

from typing import Any

import torch

from fusednn.torch.optim.optimizer import FusedStep, Group
from fusednn.torch.optim.tensors import number, rate


class Adagrad(FusedStep, torch.optim.Adagrad):
    """AdaGrad as ``torch.optim.Adagrad``, one kernel call for each parameter group.

    ``h <- h + g^2``, ``p <- p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(h) + eps)``. States and
    ``state_dict`` are PyTorch's, and load both ways; sparse gradients are refused.

    Parameters
    ----------
    params
        As of :class:`Adam`.
    lr
        A number or a tensor of one element.
    lr_decay, weight_decay, initial_accumulator_value, eps
        Not negative; ``h`` starts at `initial_accumulator_value`.
    foreach, fused
        As PyTorch's, with no influence on the step: it is fused always. ``fused=True`` keeps the
        counts of steps on the parameters' device.
    maximize
        Ascend instead of descend.
    differentiable
        Must be False.
    max_norm, ema
        As of :class:`Adam`.

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As :class:`Adam`.
    """

    kind = "adagrad"

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
    ) -> None:
        self._set_options(max_norm, ema)
        super().__init__(
            params,
            lr,
            lr_decay,
            weight_decay,
            initial_accumulator_value,
            eps,
            foreach,
            maximize=maximize,
            differentiable=differentiable,
            fused=fused,
        )

    def _states(self, group: Group) -> dict[str, str]:
        return {"sums": "sum"}

    def _hyperparameters(self, group: Group) -> dict[str, Any]:
        return {
            "lr": rate(group["lr"]),
            "lr_decay": number(group["lr_decay"]),
            "eps": number(group["eps"]),
        }

    def _initial_state(self, name: str, param: torch.Tensor) -> torch.Tensor:
        return torch.full_like(param, self.defaults["initial_accumulator_value"])
