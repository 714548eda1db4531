"""RMSProp (Hinton, 2012), centered (Graves, 2013) or with momentum."""

from __future__ import annotations

from typing import Any

import torch

from fusednn._arguments import check_number
from fusednn.torch.optim.optimizer import FusedStep, Group
from fusednn.torch.optim.tensors import number, rate


class RMSprop(FusedStep, torch.optim.RMSprop):
    """RMSProp as ``torch.optim.RMSprop``, one kernel call for each parameter group.

    ``v <- alpha v + (1 - alpha) g^2``; centered: ``m <- alpha m + (1 - alpha) g`` and ``v - m^2``
    in place of ``v``; ``d = sqrt(v) + eps``, ``b <- momentum * b + g / d``, ``p <- p - lr * b``.
    States and ``state_dict`` are PyTorch's, and load both ways. Where rounding takes ``v - m^2``
    below 0 it counts as 0; PyTorch gives NaN. (PyTorch has no fused RMSprop, and rounds short types
    after each operation.)

    Parameters
    ----------
    params
        As of :class:`Adam`.
    lr
        A number or a tensor of one element.
    alpha, momentum
        In [0, 1] (PyTorch takes larger ones).
    eps, weight_decay
        Not negative.
    centered
        Divide by an estimate of the gradient's standard deviation.
    capturable
        Keeps the counts of steps on the parameters' device.
    foreach
        As PyTorch's, with no influence on the step: it is fused always.
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

    kind = "rmsprop"

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        max_norm: float | None = None,
        ema: float | None = None,
    ) -> None:
        self._set_options(max_norm, ema)
        super().__init__(
            params,
            lr,
            alpha,
            eps,
            weight_decay,
            momentum,
            centered,
            capturable,
            foreach,
            maximize,
            differentiable,
        )

    def _check_group(self, group: Group) -> None:
        check_number("alpha", group["alpha"], minimum=0, maximum=1)
        check_number("momentum", group["momentum"], minimum=0, maximum=1)

    def _states(self, group: Group) -> dict[str, str]:
        names = {"square_avgs": "square_avg"}
        if group["momentum"]:
            names["momentum_buffers"] = "momentum_buffer"
        if group["centered"]:
            names["grad_avgs"] = "grad_avg"
        return names

    def _hyperparameters(self, group: Group) -> dict[str, Any]:
        return {
            "lr": rate(group["lr"]),
            "rho": number(group["alpha"]),
            "eps": number(group["eps"]),
            "momentum": number(group["momentum"]),
            "centered": bool(group["centered"]),
        }
