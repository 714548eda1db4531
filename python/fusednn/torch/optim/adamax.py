"""Adamax (Kingma and Ba, 2014, section 7)."""

from __future__ import annotations

from typing import Any

import torch

from fusednn.torch.optim.adam import Betas
from fusednn.torch.optim.optimizer import FusedStep, Group
from fusednn.torch.optim.tensors import number, rate


class Adamax(FusedStep, torch.optim.Adamax):
    """Adamax as ``torch.optim.Adamax``, one kernel call for each parameter group.

    ``m <- beta1 m + (1 - beta1) g``, ``u <- max(beta2 u, |g| + eps)``,
    ``p <- p - lr / (1 - beta1^t) * m / u``. States and ``state_dict`` are PyTorch's, and load both
    ways. (PyTorch has no fused Adamax, and rounds short types after each operation.)

    Parameters
    ----------
    params, lr, betas, eps, foreach, maximize, differentiable, capturable
        As of :class:`Adam`.
    weight_decay
        Added to the gradient as ``weight_decay * p``.
    max_norm, ema
        As of :class:`Adam`.

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As :class:`Adam`.
    """

    kind = "adamax"

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
    ) -> None:
        self._set_options(max_norm, ema)
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            foreach,
            maximize=maximize,
            differentiable=differentiable,
            capturable=capturable,
        )

    def _states(self, group: Group) -> dict[str, str]:
        return {"exp_avgs": "exp_avg", "exp_infs": "exp_inf"}

    def _hyperparameters(self, group: Group) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "lr": rate(group["lr"]),
            "beta1": number(beta1),
            "beta2": number(beta2),
            "eps": number(group["eps"]),
        }
