"""Stochastic gradient descent with momentum (Polyak, 1964) or Nesterov's (1983)."""

from __future__ import annotations

from typing import Any

import torch

from fusednn._arguments import check_number
from fusednn.torch.optim.optimizer import FusedStep, Group
from fusednn.torch.optim.tensors import number, rate


class SGD(FusedStep, torch.optim.SGD):
    """Stochastic gradient descent as ``torch.optim.SGD``, one kernel call for each group.

    ``b <- momentum * b + (1 - dampening) * g``, at the first step ``b = g``; ``p <- p - lr * b``,
    with `nesterov` ``p <- p - lr * (g + momentum * b)``. States and ``state_dict`` are PyTorch's,
    and load both ways.

    Parameters
    ----------
    params
        As of :class:`Adam`.
    lr
        A number or a tensor of one element.
    momentum
        In [0, 1] (PyTorch takes larger ones).
    dampening
        Finite.
    weight_decay
        Added to the gradient as ``weight_decay * p``.
    nesterov
        Needs momentum and no dampening.
    maximize
        Ascend instead of descend.
    foreach, fused
        As PyTorch's, with no influence on the step: it is fused always.
    differentiable
        Must be False.
    max_norm, ema
        As of :class:`Adam`.

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As :class:`Adam`.
    """

    kind = "sgd"
    counts_steps = False

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | torch.Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
    ) -> None:
        self._set_options(max_norm, ema)
        super().__init__(
            params,
            lr,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )

    def _check_group(self, group: Group) -> None:
        check_number("momentum", group["momentum"], minimum=0, maximum=1)

    def _states(self, group: Group) -> dict[str, str]:
        return {"momentum_buffers": "momentum_buffer"} if group["momentum"] else {}

    def _hyperparameters(self, group: Group) -> dict[str, Any]:
        return {
            "lr": rate(group["lr"]),
            "momentum": number(group["momentum"]),
            "dampening": number(group["dampening"]),
            "nesterov": bool(group["nesterov"]),
        }
