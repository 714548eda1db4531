"""BatchNorm with leaky ReLU in PyTorch's autograd, for plain tensors: straight to the kernels.

Each function's `forward` and `backward` are one call of `_core` and the allocation of its results.
What a call saves goes through `save_for_backward`, so that whatever changes it before the backward
pass is noticed, and hooks on saved tensors (checkpoints, offloading) work.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from fusednn import _core
from fusednn.torch import library
from fusednn.torch.library import channel_like, refuse_second_derivative

Gradients = tuple[Any, ...]
_increment_version = torch.autograd.graph.increment_version


def is_plain(x: torch.Tensor) -> bool:
    """Return whether `x` is a tensor with memory in a program that runs, rather than is traced."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (torch.Tensor, torch.nn.Parameter)
        and not x.is_meta
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


class _Undifferentiable(Function):
    """Passes the first `count` tensors on; that they depend on all of them is an error to use."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Any) -> Gradients:
        """Call the kernel and save what the backward pass needs."""
        return tuple(t.detach() for t in tensors[:count])

    backward = staticmethod(refuse_second_derivative)


def gradients_of(
    operator: Any, grad: torch.Tensor, saved: tuple[Any, ...], *options: Any
) -> Gradients:
    """Call a backward pass of `library`: as a function, or where it is traced as an operator."""
    if not is_plain(grad):
        traced = getattr(torch.ops.fusednn, operator.__name__)
        gradients: Gradients = traced(grad, *saved, *options)
        return gradients
    if not torch.is_grad_enabled():
        return operator(grad, *saved, *options)  # type: ignore[no-any-return]
    # Somebody keeps the graph of this backward pass (create_graph=True).
    with torch.no_grad():
        gradients = operator(grad, *saved, *options)
    return tuple(_Undifferentiable.apply(len(gradients), *gradients, grad, *saved))


class Training(Function):
    """With the batch's statistics; running statistics are updated on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        momentum: float,
        eps: float,
        negative_slope: float | None,
    ) -> torch.Tensor:
        """Call the kernel and save what the backward pass needs."""
        y, mean, inv_std = torch.empty_like(x), channel_like(x), channel_like(x)
        _core.batch_norm_forward(
            *(x, gamma, beta, running_mean, running_var, momentum, eps, True, negative_slope, 1),
            *(y, mean, inv_std),
        )
        if running_mean is not None:
            _increment_version((running_mean, running_var))
        ctx.save_for_backward(x, gamma, beta, mean, inv_std)
        ctx.negative_slope = negative_slope
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        """Return the gradients of the arguments."""
        x, gamma, beta, mean, inv_std = ctx.saved_tensors
        grad_x, grad_gamma, grad_beta = gradients_of(
            library.batch_norm_backward,
            grad,
            (x, gamma, beta, mean, inv_std),
            ctx.negative_slope,
        )
        return (
            grad_x,
            None if gamma is None else grad_gamma,
            None if beta is None else grad_beta,
            *(None,) * 5,
        )


class Inference(Function):
    """With given statistics, which do not depend on `x`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        running_mean: torch.Tensor,
        running_var: torch.Tensor,
        eps: float,
        negative_slope: float | None,
    ) -> torch.Tensor:
        """Call the kernel and save what the backward pass needs."""
        y = library.batch_norm_inference(
            x, gamma, beta, running_mean, running_var, eps, negative_slope
        )
        ctx.save_for_backward(x, gamma, beta, running_mean, running_var)
        ctx.options = eps, negative_slope
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        """Return the gradients of the arguments."""
        saved = ctx.saved_tensors
        grad_x, grad_gamma, grad_beta = gradients_of(
            library.batch_norm_inference_backward, grad, saved, *ctx.options
        )
        return (
            grad_x,
            None if saved[1] is None else grad_gamma,
            None if saved[2] is None else grad_beta,
            *(None,) * 4,
        )
