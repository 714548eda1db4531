"""BatchNorm in training with the statistics of all devices along an axis of the mesh."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fusednn.jax.batch_norm_calls import (
    Arrays,
    Options,
    Vector,
    apply,
    backward_apply,
    backward_reduce,
    merge,
    statistics,
)


@partial(jax.jit, static_argnums=5, inline=True)
@partial(jax.custom_vjp, nondiff_argnums=(5,))
def training_across(
    x: Any, gamma: Vector, beta: Vector, running_mean: Any, running_var: Any, options: Options
) -> Arrays:
    """Return `y` and the updated running statistics, which are the same on each device."""
    return _forward(x, gamma, beta, running_mean, running_var, options)[0]


def _forward(
    x: Any, gamma: Vector, beta: Vector, running_mean: Any, running_var: Any, options: Options
) -> tuple[Arrays, Arrays]:
    mean, m2, count = _merged(x, options)
    inv_std = 1 / jnp.sqrt(m2 / max(count, 1) + options.eps)
    y = apply(x, mean, inv_std, gamma, beta, options)
    if count:
        var, moved = m2 / (count - options.unbiased_running_var), options.momentum
        running_mean = (1 - moved) * running_mean + moved * mean
        running_var = (1 - moved) * running_var + moved * var
    return (y, running_mean, running_var), (x, gamma, beta, mean, inv_std)


def _merged(x: Any, options: Options) -> tuple[Any, Any, int]:
    """Return mean, sum of squared deviations and count over all devices.

    A sum in which each device has a row of its own is a gathering whose result is typed as being
    the same everywhere; the kernel then merges the rows in their order, in double.
    """
    own = jnp.stack(statistics(x, options))
    index = lax.axis_index(options.axis_name)
    rows = jnp.zeros((2, options.devices, own.shape[1]), own.dtype).at[:, index].set(own)
    means, m2s = lax.psum(rows, options.axis_name)
    mean, m2 = merge(means, m2s, options)
    return mean, m2, options.elements * options.devices


def _backward(options: Options, kept: Arrays, grads: Arrays) -> Arrays:
    x, gamma, beta, mean, inv_std = kept
    saved = grads[0], x, gamma, beta, mean, inv_std
    sum_grad, sum_grad_xhat = backward_reduce(*saved, options)
    sums = lax.psum((sum_grad, sum_grad_xhat), options.axis_name)
    count = options.elements * options.devices
    grad_x = backward_apply(*saved, sums[0], sums[1], options._replace(elements=count))
    grad_gamma = None if gamma is None else sum_grad_xhat
    grad_beta = None if beta is None else sum_grad
    return grad_x, grad_gamma, grad_beta, None, None


training_across.__wrapped__.defvjp(_forward, _backward)
