"""BatchNorm with leaky ReLU as a function, with the arguments of PyTorch's `batch_norm`."""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch

from fusednn.torch import library  # noqa: F401  registers the operators
from fusednn.torch.autograd import Inference, Training, direct, is_plain
from fusednn.torch.autograd_in_place import (
    InferenceInPlace,
    TrainingInPlace,
    check_may_be_overwritten,
)
from fusednn.torch.autograd_in_transforms import InferenceInTransforms, TrainingInTransforms

__all__ = ["batch_norm_leaky_relu"]

_float32 = torch.float32
_LOW_PRECISION = (torch.float16, torch.bfloat16)
_training, _training_in_place = direct(Training), direct(TrainingInPlace)
_inference, _inference_in_place = direct(Inference), direct(InferenceInPlace)


def batch_norm_leaky_relu(
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    negative_slope: float | None = 0.01,
    inplace: bool = False,
    num_batches_tracked: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalise each channel, scale, shift and activate, in one pass.

    ``y = leaky_relu((x - mean) * weight / sqrt(var + eps) + bias)``, with the statistics of the
    batch in training and the running ones else. As ``leaky_relu(batch_norm(...))`` of
    `torch.nn.functional`, but for rounding: what lies between the two is never rounded to the
    dtype of `input`.

    Parameters
    ----------
    input : Tensor (N, C, ...)
        float32, float64, float16 or bfloat16, on the CPU or a GPU, in any memory format, which the
        result keeps. Other strides cost a copy.
    running_mean, running_var : Tensor (C,) or None
        Updated in training, unless they are None: ``r <- (1 - momentum) * r + momentum * batch``,
        with the unbiased variance. Given otherwise.
    weight, bias : Tensor (C,) or None
        None is 1 and 0. These and the running statistics are float32, float64 where `input` is,
        or float16 or bfloat16, which costs a conversion.
    training : bool, default False
    momentum : float or None, default 0.1
        None is the average over all batches, of which `num_batches_tracked` is the count. As in
        PyTorch it may lie outside of [0, 1], which costs a copy of the running statistics.
    eps : float, default 1e-5
    negative_slope : float or None, default 0.01
        0 is ReLU, None no activation.
    inplace : bool, default False
        Overwrite `input` with the result and keep that alone for the backward pass. Needs a
        positive `negative_slope` and no `weight` that is so small beside `bias` that more than half
        of the digits of gradients would be lost: ``abs(bias / weight)`` up to 2896 for an `input`
        in float32, 32 in float16, 11 in bfloat16, 6.7e7 in float64 (on a GPU values are not looked
        at). Where the program is traced instead of run (`torch.compile`, `torch.func`) `input` is
        left as it is.
    num_batches_tracked : Tensor of one integer, optional
        Read where `momentum` is None; 1 if absent.

    Returns
    -------
    Tensor
        The shape and dtype of `input`.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, shape or number, in training for one value per channel, and for an
        `inplace` that could not be undone.
    RuntimeError
        For an `inplace` that would lose the values of a leaf. Derivatives of the gradients are
        refused when they are asked for.
    """
    return normalise(
        is_plain(input),
        input,
        running_mean,
        running_var,
        weight,
        bias,
        training,
        momentum,
        eps,
        negative_slope,
        inplace,
        num_batches_tracked,
    )


def normalise(
    plain: bool,
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    training: bool,
    momentum: float | None,
    eps: float,
    negative_slope: float | None,
    inplace: bool,
    num_batches_tracked: torch.Tensor | None = None,
) -> torch.Tensor:
    """Do what `batch_norm_leaky_relu` does; `plain` is what `is_plain` says of `input`."""
    try:
        shape = input.shape
        if len(shape) < 2:
            raise ValueError(f"`input` must be (N, C, ...). Received: shape={tuple(shape)}")
        # Float32 by one comparison each: a small layer's call is made of such things.
        if weight is not None and weight.dtype is not _float32:
            weight = _widened(weight)
        if bias is not None and bias.dtype is not _float32:
            bias = _widened(bias)
        statistics = _float32 if running_mean is None else running_mean.dtype
        if statistics is not _float32 and statistics in _LOW_PRECISION:
            return _with_low_precision_statistics(
                *(input, running_mean, running_var, weight, bias, training, momentum, eps),
                *(negative_slope, inplace, num_batches_tracked),
            )
        if inplace:
            if negative_slope is not None and not negative_slope > 0:
                raise ValueError(
                    "`negative_slope` must be positive where `inplace` is true. "
                    f"Received: negative_slope={negative_slope}"
                )
            if plain:
                check_may_be_overwritten(input, weight, bias, negative_slope)
        if not training:
            if running_mean is None or running_var is None:
                raise ValueError(
                    "`running_mean` and `running_var` must be given where `training` is false. "
                    "Received: None"
                )
            given = (input, weight, bias, running_mean, running_var, eps, negative_slope)
            if plain:
                return (_inference_in_place if inplace else _inference)(*given)
            return traced(InferenceInTransforms, torch.ops.fusednn.batch_norm_inference)(*given)
        if shape[0] == 1 and input.numel() == shape[1] > 0:
            raise ValueError(
                "`input` must have more than one value per channel in training. "
                f"Received: shape={tuple(shape)}"
            )
        if plain:
            if type(momentum) is not float or not 0.0 <= momentum <= 1.0:
                if momentum is None:
                    count = num_batches_tracked
                    momentum = 1.0 if count is None else 1.0 / float(count)
                elif running_mean is not None and _extrapolates(momentum):
                    return _with_any_momentum(
                        *(input, running_mean, running_var, weight, bias, momentum, eps),
                        *(negative_slope, inplace),
                    )
            options = (running_mean, running_var, momentum, eps, True, negative_slope)
            return (_training_in_place if inplace else _training)(input, weight, bias, options)
        function = traced(TrainingInTransforms, torch.ops.fusednn.batch_norm_forward)
        y, mean, _, var = function(input, weight, bias, eps, negative_slope)
        if running_mean is not None:
            torch.ops.fusednn.update_running_stats(
                *(running_mean, running_var, mean, var, input.numel() // max(shape[1], 1)),
                *(momentum, num_batches_tracked),
            )
        return y
    except (AttributeError, TypeError, ValueError) as error:
        say_in_torchs_names(error, input)
        raise


#: What the kernels call their arguments, and what PyTorch does.
_NAMES = {"`x`": "`input`", "`gamma`": "`weight`", "`beta`": "`bias`"}


def say_in_torchs_names(error: Exception, input: Any) -> None:
    """Let the message of `error` name PyTorch's arguments; say so where `input` is no tensor."""
    if not isinstance(input, torch.Tensor):
        received = type(input).__name__
        raise TypeError(f"`input` must be a tensor. Received: type={received}") from None
    if error.args and isinstance(message := error.args[0], str):
        for ours, theirs in _NAMES.items():
            message = message.replace(ours, theirs)
        error.args = (message, *error.args[1:])


def _extrapolates(momentum: Any) -> bool:
    kind = type(momentum)
    return (kind is float or kind is int) and not 0 <= momentum <= 1 and isfinite(momentum)


def _widened(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.float() if parameter.dtype in _LOW_PRECISION else parameter


def traced(function: Any, operator: Any) -> Any:
    """Return what to call where the program is not just run."""
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return operator
    return function.apply


def _with_low_precision_statistics(
    input: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    training: bool,
    *options: Any,
) -> torch.Tensor:
    """Compute with running statistics in float32, and round them once."""
    mean, var = running_mean.float(), running_var.float()
    y = batch_norm_leaky_relu(input, mean, var, weight, bias, training, *options)
    if training:
        running_mean.copy_(mean)
        running_var.copy_(var)
    return y


def _with_any_momentum(
    input: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    momentum: float,
    *options: Any,
) -> torch.Tensor:
    """Compute in training, and let running statistics go past the batch's, or away from them."""
    moved = (running_mean, running_var)
    mean, var = batch = [r if r is None else r.clone() for r in moved]
    y = batch_norm_leaky_relu(input, mean, var, weight, bias, True, 1.0, *options)
    with torch.no_grad():
        for running, of_batch in zip(moved, batch, strict=True):
            if running is not None:
                running.lerp_(of_batch, momentum)
    return y
