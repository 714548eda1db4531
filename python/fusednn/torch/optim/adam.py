"""Adam (Kingma and Ba, 2014), AMSGrad (Reddi et al., 2018), AdamW (Loshchilov and Hutter, 2019)."""

from __future__ import annotations

from typing import Any

import torch

from fusednn.torch.optim.optimizer import FusedStep, Group
from fusednn.torch.optim.tensors import number, rate

Betas = tuple[float | torch.Tensor, float | torch.Tensor]


class _AdamStep(FusedStep):
    kind = "adam"

    def _states(self, group: Group) -> dict[str, str]:
        names = {"exp_avgs": "exp_avg", "exp_avg_sqs": "exp_avg_sq"}
        return names | ({"max_exp_avg_sqs": "max_exp_avg_sq"} if group["amsgrad"] else {})

    def _hyperparameters(self, group: Group) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "lr": rate(group["lr"]),
            "beta1": number(beta1),
            "beta2": number(beta2),
            "eps": number(group["eps"]),
            "amsgrad": bool(group["amsgrad"]),
        }


class Adam(_AdamStep, torch.optim.Adam):
    """Adam as ``torch.optim.Adam``, one kernel call for each parameter group.

    ``m <- beta1 m + (1 - beta1) g``, ``v <- beta2 v + (1 - beta2) g^2``,
    ``p <- p - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)``; with `amsgrad` the
    largest ``v`` so far. States and ``state_dict`` are PyTorch's, and load both ways.

    Parameters
    ----------
    params
        Parameters, named parameters or parameter groups, as PyTorch takes them; float32, float64,
        float16 or bfloat16. The arithmetic is float32 (float64 for float64), whatever is stored.
    lr
        A number or a tensor of one element.
    betas
        Two numbers, or two tensors of one element, in [0, 1).
    eps
        Not negative.
    weight_decay
        Added to the gradient as ``weight_decay * p``, or see `decoupled_weight_decay`.
    amsgrad
        Divide by the root of the largest ``v``.
    foreach, fused
        As PyTorch's, with no influence on the step: it is fused always. ``fused=True`` keeps the
        counts of steps on the parameters' device.
    maximize
        Ascend instead of descend.
    capturable
        Keeps the counts of steps on the parameters' device.
    differentiable
        Must be False.
    decoupled_weight_decay
        ``p <- (1 - lr * weight_decay) p`` instead: AdamW.
    max_norm
        Scale all gradients down to this L2 norm first, as ``torch.nn.utils.clip_grad_norm_`` does,
        but without writing them. None: do not. (PyTorch's class has no such option.)
    ema
        Keep moving averages of the parameters, ``ema <- ema_momentum * ema + (1 - ema_momentum)
        p`` with this momentum in [0, 1], in the state named ``"ema"``, float32 (float64 for
        float64); at the first step a copy. See `averaged_parameters`. None: do not. (PyTorch has
        ``torch.optim.swa_utils.AveragedModel`` for it.)

    Raises
    ------
    NotImplementedError
        `differentiable` is True.
    TypeError
        A parameter is complex, or no floating-point number.
    ValueError
        A number is out of range.
    """

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
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
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=decoupled_weight_decay,
        )


class AdamW(_AdamStep, torch.optim.AdamW):
    """AdamW as ``torch.optim.AdamW``: Adam after ``p <- (1 - lr * weight_decay) p``.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize, foreach, capturable, differentiable, fused
        As of :class:`Adam`.
    weight_decay
        Coefficient of the decoupled decay.
    max_norm, ema
        As of :class:`Adam`.

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As :class:`Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
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
            amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )
