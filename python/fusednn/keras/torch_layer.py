"""The layer on Keras' PyTorch backend: variables and tensors of Keras to `fusednn.torch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from keras.src.backend.common.stateless_scope import in_stateless_scope

from fusednn.torch.autograd import Inference, Training, direct, is_plain
from fusednn.torch.autograd_in_transforms import TrainingInTransforms
from fusednn.torch.functional import batch_norm_leaky_relu, traced

if TYPE_CHECKING:
    from fusednn.keras.batch_normalization_leaky_relu import BatchNormalizationLeakyReLU

_training, _inference = direct(Training), direct(Inference)
_NAMES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


def can_compute(inputs: Any) -> bool:
    """Return whether `inputs` is a tensor with values, not one that Keras finds shapes with."""
    return isinstance(inputs, torch.Tensor) and not inputs.is_meta and not inputs.is_complex()


def batch_normalization_leaky_relu(
    layer: BatchNormalizationLeakyReLU, x: torch.Tensor, training: bool
) -> torch.Tensor:
    """Return what `layer` makes of `x`; in training its moving statistics move."""
    if x.dtype not in _NAMES:
        x = x.float()
    channels = layer.axis % x.ndim
    moved = channels != 1
    if moved:
        x = x.movedim(channels, 1)
    numbers = torch.float64 if x.dtype is torch.float64 else torch.float32
    gamma = _value(layer.gamma, numbers) if layer.scale else None
    beta = _value(layer.beta, numbers) if layer.center else None
    mean, variance = _value(layer.moving_mean, numbers), _value(layer.moving_variance, numbers)
    epsilon, slope = layer.epsilon, layer.negative_slope
    if training:
        y = _train(layer, x, gamma, beta, mean, variance)
    elif is_plain(x):
        y = _inference(x, gamma, beta, mean, variance, epsilon, slope)
    else:
        y = batch_norm_leaky_relu(x, mean, variance, gamma, beta, eps=epsilon, negative_slope=slope)
    if moved:
        y = y.movedim(1, channels)
    compute_dtype = layer.compute_dtype
    return y if _NAMES[y.dtype] == compute_dtype else y.to(getattr(torch, compute_dtype))


def _value(variable: Any, dtype: torch.dtype) -> torch.Tensor:
    value = variable.value
    return value if value.dtype is dtype else value.to(dtype)


def _train(
    layer: BatchNormalizationLeakyReLU,
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor:
    epsilon, slope, weight = layer.epsilon, layer.negative_slope, 1.0 - layer.momentum
    if is_plain(x) and not in_stateless_scope():
        y = _training(x, gamma, beta, (mean, variance, weight, epsilon, False, slope))
        if mean is not layer.moving_mean.value:  # of another type: these are copies
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        return y
    # Functional: here variables may stand for what somebody else keeps, or be traced.
    function = traced(TrainingInTransforms, torch.ops.fusednn.batch_norm_forward)
    y, batch_mean, _, unbiased = function(x, gamma, beta, epsilon, slope)
    count = x.numel() // max(x.shape[1], 1)
    biased = unbiased * ((count - 1) / count) if count > 1 else unbiased
    layer.moving_mean.assign(mean + (batch_mean - mean) * weight)
    layer.moving_variance.assign(variance + (biased - variance) * weight)
    return y
