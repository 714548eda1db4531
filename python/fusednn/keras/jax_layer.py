"""The layer on Keras' JAX backend: variables and arrays of Keras to `fusednn.jax`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras

from fusednn.jax import batch_norm, batch_norm_inference

if TYPE_CHECKING:
    from fusednn.keras.batch_normalization_leaky_relu import BatchNormalizationLeakyReLU


def can_compute(inputs: Any) -> bool:
    """Return whether `inputs` is an array, or stands for one in a program that is traced.

    Arrays that Keras distributes over devices are left to XLA, which would gather them first, and
    those of unknown sizes, which a handler has no form for.
    """
    return (
        isinstance(inputs, jax.Array)
        and all(isinstance(size, int) for size in inputs.shape)
        and not jnp.issubdtype(inputs.dtype, jnp.complexfloating)
        and keras.distribution.distribution() is None
    )


def batch_normalization_leaky_relu(
    layer: BatchNormalizationLeakyReLU, x: Any, training: bool
) -> Any:
    """Return what `layer` makes of `x`; in training its moving statistics move."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.float32)
    numbers = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    gamma = layer.gamma.value.astype(numbers) if layer.scale else None
    beta = layer.beta.value.astype(numbers) if layer.center else None
    mean = layer.moving_mean.value.astype(numbers)
    variance = layer.moving_variance.value.astype(numbers)
    options = {
        "eps": layer.epsilon,
        "negative_slope": layer.negative_slope,
        "channel_axis": layer.axis,
    }
    if training:
        y, mean, variance = batch_norm(
            x, gamma, beta, mean, variance, momentum=1.0 - layer.momentum, **options
        )
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    else:
        y = batch_norm_inference(x, gamma, beta, mean, variance, **options)
    return y.astype(layer.compute_dtype)
