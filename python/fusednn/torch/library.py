"""The kernels as operators of PyTorch's dispatcher, `torch.ops.fusednn`.

Whatever traces a program instead of running it (`torch.compile`, `torch.export`, `torch.func`, fake
tensors) sees an operator with a shape function and a derivative. Plain tensors in a plain program
go to the kernels past the dispatcher, which takes longer than a small kernel: `autograd.py`.

All operators are functional but one: running statistics are updated by an operator of their own, as
what is differentiated must not change its arguments.

`torch.vmap` maps an operator over its members one by one: a kernel is called for each of them with
what is its own, views of the stacked arguments, and the results are stacked.
"""

from __future__ import annotations

from typing import Any

import torch

from fusednn import _core

_LIBRARY = torch.library.Library("fusednn", "FRAGMENT")

Tensors = tuple[torch.Tensor, ...]


def channel_like(x: torch.Tensor) -> torch.Tensor:
    """Allocate a per-channel tensor for `x`: float32, or float64 where `x` is."""
    dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
    return torch.empty(x.shape[1], dtype=dtype, device=x.device)


def batch_norm_forward(
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    eps: float,
    negative_slope: float | None,
) -> Tensors:
    """Return `y`, `mean`, `inv_std` and the unbiased variance."""
    y, mean, inv_std, var = torch.empty_like(x), *(channel_like(x) for _ in range(3))
    # With momentum 1 a running variance is the batch's.
    unused, count = torch.zeros_like(mean), x.numel() // max(x.shape[1], 1)
    var.zero_()
    _core.batch_norm_forward(
        x, gamma, beta, unused, var, 1.0, eps, count > 1, negative_slope, 1, y, mean, inv_std
    )
    return y, mean, inv_std, var


def batch_norm_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor,
    inv_std: torch.Tensor,
    negative_slope: float | None,
) -> Tensors:
    """Return the gradients of `x`, `gamma` and `beta`."""
    grad_x, grad_gamma, grad_beta = torch.empty_like(x), channel_like(x), channel_like(x)
    _core.batch_norm_backward(
        *(grad, x, gamma, beta, mean, inv_std, negative_slope, 1, grad_x, grad_gamma, grad_beta)
    )
    return grad_x, grad_gamma, grad_beta


def batch_norm_inference(
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    eps: float,
    negative_slope: float | None,
) -> torch.Tensor:
    """Return `y`."""
    y = torch.empty_like(x)
    _core.batch_norm_inference(x, gamma, beta, running_mean, running_var, eps, negative_slope, 1, y)
    return y


def batch_norm_inference_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    eps: float,
    negative_slope: float | None,
) -> Tensors:
    """Return the gradients of `x`, `gamma` and `beta`."""
    grad_x, grad_gamma, grad_beta = torch.empty_like(x), channel_like(x), channel_like(x)
    _core.batch_norm_inference_backward(
        *(grad, x, gamma, beta, running_mean, running_var, eps, negative_slope, 1),
        *(grad_x, grad_gamma, grad_beta),
    )
    return grad_x, grad_gamma, grad_beta


def update_running_stats(
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    count: int,
    momentum: float | None,
    num_batches_tracked: torch.Tensor | None,
) -> None:
    """Move running statistics towards a batch's; a `momentum` of None averages over all batches."""
    if count == 0:
        return
    weight = momentum
    if weight is None:
        weight = 1.0 if num_batches_tracked is None else 1.0 / num_batches_tracked.item()
    # What `vmap` makes of a function forgets which of its results have no gradients.
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), weight)
        running_var.lerp_(var.to(running_var.dtype), weight)


def _fake_forward(x: torch.Tensor, *rest: Any) -> Tensors:
    return torch.empty_like(x), channel_like(x), channel_like(x), channel_like(x)


def fake_backward(grad: torch.Tensor, x: torch.Tensor, *rest: Any) -> Tensors:
    """Return what has the shapes of the gradients of `x`, `gamma` and `beta`."""
    return torch.empty_like(x), channel_like(x), channel_like(x)


def _fake_inference(x: torch.Tensor, *rest: Any) -> torch.Tensor:
    return torch.empty_like(x)


def _fake_update(*arguments: Any) -> None:
    return None


def _members(info: Any, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...]) -> list[Any]:
    """Return the arguments of each member of a batch of calls; what they share is in all."""
    if not info.batch_size:
        raise ValueError("`vmap` must map over at least one member. Received: an axis of size 0")
    pairs = list(zip(arguments, in_dims, strict=True))
    return [
        tuple(a if dim is None else a.select(dim, index) for a, dim in pairs)
        for index in range(info.batch_size)
    ]


def _each_by_itself(operator: Any) -> Any:
    """Return the rule of `vmap` for an operator that changes nothing."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        results = [operator(*member) for member in _members(info, in_dims, arguments)]
        if isinstance(results[0], torch.Tensor):
            return torch.stack(results), 0
        stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)

    return rule


def _update_each(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[None, None]:
    """Update each member's running statistics in place, by its own batch."""
    if in_dims[0] is None or in_dims[1] is None:
        raise RuntimeError(
            "`running_mean` and `running_var` must be mapped over where `vmap` maps over a module "
            "in training, as each member updates its own: give it those of "
            "torch.func.stack_module_state, or have none "
            "(torch.func.replace_all_batch_norm_modules_). "
            f"Received: in_dims={in_dims[0]} and {in_dims[1]}"
        )
    for member in _members(info, in_dims, arguments):
        torch.ops.fusednn.update_running_stats(*member)
    return None, None


def define(name: str, schema: str, function: Any, fake: Any, rule: Any = None) -> None:
    """Make `function` the operator `name`; without a `rule` of `vmap` it must change nothing."""
    _LIBRARY.define(name + schema)
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, function, device)
    torch.library.register_fake(f"fusednn::{name}", fake, lib=_LIBRARY)
    rule = rule or _each_by_itself(getattr(torch.ops.fusednn, name))
    torch.library.register_vmap(f"fusednn::{name}", rule, lib=_LIBRARY)


_VECTORS = "Tensor? gamma, Tensor? beta"
_STATISTICS = "Tensor running_mean, Tensor running_var, float eps"

for _operator in (
    (
        "batch_norm_forward",
        f"(Tensor x, {_VECTORS}, float eps, float? negative_slope)"
        " -> (Tensor y, Tensor mean, Tensor inv_std, Tensor var)",
        batch_norm_forward,
        _fake_forward,
    ),
    (
        "batch_norm_backward",
        f"(Tensor grad, Tensor x, {_VECTORS}, Tensor mean, Tensor inv_std, float? negative_slope)"
        " -> (Tensor grad_x, Tensor grad_gamma, Tensor grad_beta)",
        batch_norm_backward,
        fake_backward,
    ),
    (
        "batch_norm_inference",
        f"(Tensor x, {_VECTORS}, {_STATISTICS}, float? negative_slope) -> Tensor",
        batch_norm_inference,
        _fake_inference,
    ),
    (
        "batch_norm_inference_backward",
        f"(Tensor grad, Tensor x, {_VECTORS}, {_STATISTICS}, float? negative_slope)"
        " -> (Tensor grad_x, Tensor grad_gamma, Tensor grad_beta)",
        batch_norm_inference_backward,
        fake_backward,
    ),
    (
        "update_running_stats",
        "(Tensor(a!) running_mean, Tensor(b!) running_var, Tensor mean, Tensor var, SymInt count,"
        " float? momentum, Tensor? num_batches_tracked) -> ()",
        update_running_stats,
        _fake_update,
        _update_each,
    ),
):
    define(*_operator)


def needed(ctx: Any, first: int, gradients: Tensors) -> tuple[torch.Tensor | None, ...]:
    """Return those of `gradients` that autograd asks for, from its input `first` on."""
    wanted = ctx.needs_input_grad[first : first + len(gradients)]
    return tuple(g if w else None for g, w in zip(gradients, wanted, strict=True))


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    x, gamma, beta, _, ctx.negative_slope = inputs
    _, mean, inv_std, var = output
    # The backward pass gives the gradient of `y` alone; statistics are results, not steps.
    ctx.mark_non_differentiable(mean, inv_std, var)
    ctx.save_for_backward(x, gamma, beta, mean, inv_std)


def _differentiate_forward(ctx: Any, grad: torch.Tensor, *unused: Any) -> tuple[Any, ...]:
    gradients = torch.ops.fusednn.batch_norm_backward(grad, *ctx.saved_tensors, ctx.negative_slope)
    return *needed(ctx, 0, gradients), None, None


def _save_inference(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.eps, ctx.negative_slope = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_inference(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    gradients = torch.ops.fusednn.batch_norm_inference_backward(
        grad, *ctx.saved_tensors, ctx.eps, ctx.negative_slope
    )
    return *needed(ctx, 0, gradients), None, None, None, None


def refuse_second_derivative(*arguments: Any) -> Any:
    """Refuse to differentiate a backward pass."""
    raise RuntimeError(
        "The gradients of BatchNorm with leaky ReLU cannot be differentiated again: for gradient "
        "penalties and Hessians use torch.nn.BatchNorm and LeakyReLU (fusednn.torch.revert)."
    )


for _name, _backward, _setup in (
    ("batch_norm_forward", _differentiate_forward, _save_forward),
    ("batch_norm_inference", _differentiate_inference, _save_inference),
    ("batch_norm_backward", refuse_second_derivative, None),
    ("batch_norm_inference_backward", refuse_second_derivative, None),
):
    torch.library.register_autograd(
        f"fusednn::{_name}", _backward, setup_context=_setup, lib=_LIBRARY
    )
