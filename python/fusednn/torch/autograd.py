"""BatchNorm with leaky ReLU in PyTorch's autograd, for plain tensors: straight to the kernels.

Each function's `forward` and `backward` are one call of `_core` and the allocation of its results.
What a call saves goes through `save_for_backward`, so that whatever changes it before the backward
pass is noticed, and hooks on saved tensors (checkpoints, offloading) work; but the batch's
statistics, which nobody else sees, are NumPy's arrays on the CPU, as these are made and read in a
third of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import Function, forward_ad

from fusednn import _core
from fusednn.torch import library
from fusednn.torch.library import channel_like, refuse_second_derivative

Gradients = tuple[Any, ...]
#: Running mean and variance, momentum, epsilon, whether the running variance is the unbiased one,
#: negative slope: one argument, because each takes autograd some time in both directions.
TrainingOptions = tuple[torch.Tensor | None, torch.Tensor | None, float, float, bool, float | None]
_PLAIN = (torch.Tensor, torch.nn.Parameter)
# Looked up once: each attribute of a module takes a hundredth of such a call.
_empty_like, _empty = torch.empty_like, np.empty
_is_grad_enabled = torch.is_grad_enabled
_in_transform = torch._C._are_functorch_transforms_active
_is_batched = torch._C._functorch.is_legacy_batchedtensor  # of is_grads_batched=True
_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._get_tracing_state
_increment_version = torch._C._increment_version
_base_apply = torch._C._FunctionBase.__dict__["apply"]
_batch_norm_forward, _batch_norm_backward = _core.batch_norm_forward, _core.batch_norm_backward
_tensor, _torch_float64 = torch.Tensor, torch.float64
_float32, _float64 = np.dtype(np.float32), np.dtype(np.float64)


def _empty_strided(shape: Any, strides: Any, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_strided(shape, strides, dtype=dtype)


# What inductor's programs allocate with, in half of the time of `torch.empty_like`.
_empty_on_cpu = getattr(torch._C._dynamo.guards, "_empty_strided_cpu", _empty_strided)


def is_plain(x: torch.Tensor) -> bool:
    """Return whether `x` is a tensor with memory in a program that runs, rather than is traced."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in _PLAIN
        and not _in_transform()
        and not _modes()
        and not _tracing()  # torch.jit.trace
        and not x.is_meta
    )


def is_plain_gradient(grad: torch.Tensor) -> bool:
    """Return whether `grad` is a tensor with memory, rather than traced or many at a time."""
    return type(grad) is torch.Tensor and not _in_transform() and not _is_batched(grad)


def count_batch(counter: torch.Tensor, plain: bool) -> None:
    """Add 1 to the `counter` of batches, where these are `plain` without PyTorch's dispatcher.

    By `add_` it takes an eighth of a small layer's forward pass.
    """
    if plain and _core.count_up(counter):
        _increment_version((counter,))
    else:
        counter.add_(1)


class _NothingSaved:
    """Stands for the context where nothing is recorded."""

    def save_for_backward(self, *tensors: Any) -> None:
        pass

    mark_dirty = save_for_backward


def leave_backward_out_of_graphs(function: type[Function]) -> None:
    """Let autograd call the backward pass itself, and compiled autograd so that it is not traced.

    The latter calls `backward` by its name; dynamo would warn of each kernel in it.
    """
    function._backward_cls.apply = function.backward
    function.backward = staticmethod(torch._disable_dynamo(function.backward))


def direct(function: type[Function]) -> Any:
    """Return what `function.apply` does for plain tensors.

    The preparations for `torch.func` are left out, and where nothing is recorded all of autograd.
    The backward pass is called by itself, not by a function that looks for `vjp`, too.
    """
    forward, apply = function.forward, _base_apply.__get__(None, function)
    leave_backward_out_of_graphs(function)

    def call(*arguments: Any) -> Any:
        if _is_grad_enabled() or forward_ad._current_level >= 0:  # tangents are refused there
            return apply(*arguments)
        return forward(_NothingSaved(), *arguments)

    return call


def batch_statistics(x: torch.Tensor) -> Any:
    """Allocate a per-channel array for the statistics of `x`."""
    if not x.is_cpu:
        return channel_like(x)
    return _empty(x.shape[1], _float64 if x.dtype is torch.float64 else _float32)


def as_tensor(statistics: Any) -> torch.Tensor:
    """Return an array of :func:`batch_statistics` as a tensor."""
    return torch.from_numpy(statistics) if isinstance(statistics, np.ndarray) else statistics


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
    plain = is_plain_gradient(grad)
    if plain and not torch.is_grad_enabled():
        return operator(grad, *saved, *options)  # type: ignore[no-any-return]
    saved = tuple(as_tensor(t) for t in saved)
    if not plain:
        traced = getattr(torch.ops.fusednn, operator.__name__)
        return traced(grad, *saved, *options)  # type: ignore[no-any-return]
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
        options: TrainingOptions,
    ) -> torch.Tensor:
        """Call the kernel and save what the backward pass needs."""
        y = _empty_like(x)
        if x.is_cpu:  # as `batch_statistics`, called twice, takes a third of a microsecond more
            channels, dtype = x.shape[1], _float64 if x.dtype is _torch_float64 else _float32
            mean, inv_std = _empty(channels, dtype), _empty(channels, dtype)
        else:
            mean, inv_std = batch_statistics(x), batch_statistics(x)
        running_mean, running_var, momentum, eps, unbiased, negative_slope = options
        _batch_norm_forward(
            x,
            gamma,
            beta,
            running_mean,
            running_var,
            momentum,
            eps,
            unbiased,
            negative_slope,
            1,
            y,
            mean,
            inv_std,
        )
        if running_mean is not None:
            _increment_version((running_mean, running_var))
        ctx.save_for_backward(x, gamma, beta)
        ctx.rest = mean, inv_std, negative_slope
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        """Return the gradients of the arguments."""
        saved = x, gamma, beta = ctx.saved_tensors
        mean, inv_std, negative_slope = ctx.rest
        # As `gradients_of`, without its calls: they took 2 of 33 microseconds of a small layer.
        if (
            type(grad) is _tensor
            and gamma is not None
            and beta is not None
            and not _is_grad_enabled()
            and not _in_transform()
            and not _is_batched(grad)
        ):
            grad_x = _empty_like(x)
            if x.is_cpu:
                shape, dtype = (gamma.shape[0],), gamma.dtype
                grad_gamma = _empty_on_cpu(shape, (1,), dtype)
                grad_beta = _empty_on_cpu(shape, (1,), dtype)
            else:
                grad_gamma, grad_beta = _empty_like(gamma), _empty_like(beta)
            _batch_norm_backward(
                grad,
                x,
                gamma,
                beta,
                mean,
                inv_std,
                negative_slope,
                1,
                grad_x,
                grad_gamma,
                grad_beta,
            )
            return grad_x, grad_gamma, grad_beta, None
        grad_x, grad_gamma, grad_beta = gradients_of(
            library.batch_norm_backward, grad, (*saved, mean, inv_std), negative_slope
        )
        return (
            grad_x,
            None if gamma is None else grad_gamma,
            None if beta is None else grad_beta,
            None,
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
