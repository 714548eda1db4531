"""BatchNorm with leaky ReLU that overwrites its input, in PyTorch's autograd.

What is saved is the output, which the next layer saves anyway: one activation less is kept. The
backward pass finds the input's part from the output (``ops.batch_norm_backward_from_output``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from fusednn import _core
from fusednn.torch.autograd import Gradients, TrainingOptions, gradients_of
from fusednn.torch.library import (
    channel_like,
    define,
    fake_backward,
    refuse_second_derivative,
)

_increment_version = torch._C._increment_version


def check_may_be_overwritten(
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    negative_slope: float | None,
) -> None:
    """Refuse what autograd would refuse after the fact, and what no backward pass could undo.

    Raises
    ------
    RuntimeError
        For a leaf that requires a gradient, or a view that PyTorch does not let change.
    ValueError
        For a `gamma` that is too small beside `beta` and `negative_slope`.
    """
    if not torch.is_grad_enabled():
        return
    if x.requires_grad and x.is_leaf:
        raise RuntimeError(
            "`input` must not be a leaf that requires a gradient where `inplace` is true, as its "
            "values would be lost. Received: a leaf"
        )
    if x._is_view():
        x[:0].zero_()  # changes nothing; raises where a change is not allowed
    with torch.no_grad():
        c = _core.batch_norm_unrecoverable(x, gamma, beta, negative_slope, 1)
    if c >= 0:
        weight, bias = (v if t is None else t[c].item() for t, v in ((gamma, 1.0), (beta, 0.0)))
        most = torch.finfo(x.dtype).eps ** -0.5
        raise ValueError(
            "`weight` must not be zero where `inplace` is true, nor so small beside `bias` and "
            "`negative_slope` that the backward pass loses more than half of the digits: "
            f"abs(bias / weight) is at most {most:.4g} in {x.dtype}. Received: "
            f"weight[{c}]={weight}, bias[{c}]={bias}, negative_slope={negative_slope}"
        )


def backward_from_output(
    grad: torch.Tensor,
    y: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    inv_std: torch.Tensor,
    negative_slope: float | None,
) -> Gradients:
    """Gradients where the statistics were the batch's."""
    grad_x, grad_gamma, grad_beta = torch.empty_like(y), channel_like(y), channel_like(y)
    _core.batch_norm_backward_from_output(
        *(grad, y, gamma, beta, inv_std, negative_slope, 1, grad_x, grad_gamma, grad_beta)
    )
    return grad_x, grad_gamma, grad_beta


def inference_backward_from_output(
    grad: torch.Tensor,
    y: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    inv_std: torch.Tensor,
    negative_slope: float | None,
) -> Gradients:
    """Gradients where the statistics were given: ``grad_x = gamma * inv_std * g``."""
    grad_x, grad_gamma, grad_beta = backward_from_output(
        grad, y, gamma, beta, inv_std, negative_slope
    )
    _core.leaky_relu_backward(grad, y, 1.0 if negative_slope is None else negative_slope, grad_x)
    zeros = torch.zeros_like(inv_std)
    _core.batch_norm_apply(grad_x, zeros, inv_std, gamma, None, None, 1, grad_x)
    return grad_x, grad_gamma, grad_beta


# Called as operators with many gradients at a time (`is_grads_batched`, `vmap`).
for _function in (backward_from_output, inference_backward_from_output):
    define(
        _function.__name__,
        "(Tensor grad, Tensor y, Tensor? gamma, Tensor? beta, Tensor inv_std,"
        " float? negative_slope) -> (Tensor grad_x, Tensor grad_gamma, Tensor grad_beta)",
        _function,
        fake_backward,
    )
    torch.library.register_autograd(f"fusednn::{_function.__name__}", refuse_second_derivative)


class _InPlace(Function):
    """Common to both forms; `x` is written to already."""

    @staticmethod
    def save(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        inv_std: torch.Tensor,
        negative_slope: float | None,
    ) -> torch.Tensor:
        ctx.mark_dirty(x)
        ctx.save_for_backward(x, gamma, beta, inv_std)
        ctx.negative_slope = negative_slope
        return x

    @staticmethod
    def differentiate(operator: Any, ctx: Any, grad: torch.Tensor) -> Gradients:
        saved = ctx.saved_tensors
        grad_x, grad_gamma, grad_beta = gradients_of(operator, grad, saved, ctx.negative_slope)
        return (
            grad_x,
            None if saved[1] is None else grad_gamma,
            None if saved[2] is None else grad_beta,
        )


class TrainingInPlace(_InPlace):
    """With the batch's statistics; running statistics are updated on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        options: TrainingOptions,
    ) -> torch.Tensor:
        """Call the kernel and save what the backward pass needs."""
        mean, inv_std = channel_like(x), channel_like(x)
        _core.batch_norm_forward(x, gamma, beta, *options, 1, x, mean, inv_std)
        if options[0] is not None:
            _increment_version(options[:2])
        return _InPlace.save(ctx, x, gamma, beta, inv_std, options[-1])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        """Return the gradients of the arguments."""
        return (*_InPlace.differentiate(backward_from_output, ctx, grad), None)


class InferenceInPlace(_InPlace):
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
        _core.batch_norm_inference(
            x, gamma, beta, running_mean, running_var, eps, negative_slope, 1, x
        )
        inv_std = torch.rsqrt(running_var + eps)
        return _InPlace.save(ctx, x, gamma, beta, inv_std, negative_slope)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        """Return the gradients of the arguments."""
        return (*_InPlace.differentiate(inference_backward_from_output, ctx, grad), *(None,) * 4)
