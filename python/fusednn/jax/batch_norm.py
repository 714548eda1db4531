"""BatchNorm with leaky ReLU, in training and with given statistics."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fusednn.jax.arguments import require_array, require_axis, require_number, require_vector
from fusednn.jax.batch_norm_across import training_across
from fusednn.jax.batch_norm_calls import (
    Arrays,
    Options,
    Vector,
    backward,
    forward,
    inference,
    inference_backward,
    vector_dtype,
)
from fusednn.jax.calls import axes_of, varying


@partial(jax.jit, static_argnums=5, inline=True)
@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _training(
    x: Any, gamma: Vector, beta: Vector, running_mean: Any, running_var: Any, options: Options
) -> Arrays:
    return _training_forward(x, gamma, beta, running_mean, running_var, options)[0]


def _training_forward(
    x: Any, gamma: Vector, beta: Vector, running_mean: Any, running_var: Any, options: Options
) -> tuple[Arrays, Arrays]:
    results = forward(x, gamma, beta, running_mean, running_var, options)
    y, mean, inv_std, *running = results
    return (y, *running), (x, gamma, beta, mean, inv_std)


def _training_backward(options: Options, kept: Arrays, grads: Arrays) -> Arrays:
    x, gamma, beta, mean, inv_std = kept
    return (*backward(grads[0], x, gamma, beta, mean, inv_std, options), None, None)


_training.__wrapped__.defvjp(_training_forward, _training_backward)


@partial(jax.jit, static_argnums=5, inline=True)
@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _inference(
    x: Any, gamma: Vector, beta: Vector, running_mean: Any, running_var: Any, options: Options
) -> Any:
    return inference(x, gamma, beta, running_mean, running_var, options)


def _inference_forward(*arguments: Any) -> tuple[Any, Arrays]:
    return inference(*arguments), arguments[:-1]


def _inference_backward(options: Options, kept: Arrays, grad: Any) -> Arrays:
    x, gamma, beta, running_mean, running_var = kept
    grads = inference_backward(grad, x, gamma, beta, running_mean, running_var, options)
    return (*grads, None, None)


_inference.__wrapped__.defvjp(_inference_forward, _inference_backward)


def batch_norm(
    x: Any,
    gamma: Vector = None,
    beta: Vector = None,
    running_mean: Vector = None,
    running_var: Vector = None,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    unbiased_running_var: bool = False,
    negative_slope: float | None = None,
    channel_axis: int = -1,
    axis_name: Any = None,
) -> tuple[Any, Any, Any]:
    """Normalise with the batch's statistics, scale, shift and activate, in one pass.

    ``y = leaky_relu((x - mean) * gamma / sqrt(var + eps) + beta)``, with the mean and the biased
    variance of each channel. One call of a kernel forward, one backward.

    Parameters
    ----------
    x : Array
        float32, float64, float16 or bfloat16, with the channels on `channel_axis`.
    gamma, beta : Array (channels,) or None
        Scale and shift; None is 1 and 0.
    running_mean, running_var : Array (channels,), both or neither
        Returned as ``(1 - momentum) * running + momentum * batch``; in place where they are
        donated.
    momentum : float in [0, 1], default 0.1
        PyTorch's meaning; that of Flax and Keras is one minus it.
    eps : float >= 0, default 1e-5
    unbiased_running_var : bool, default False
        Whether `running_var` takes the variance times n / (n - 1), as in PyTorch; Flax, Equinox and
        Keras take it as it is.
    negative_slope : float or None
        Slope of the leaky ReLU; 0 is ReLU, None no activation.
    channel_axis : int, default -1
        1 for NCHW.
    axis_name : str or tuple of str, optional
        Axes of `jax.shard_map`, `jax.vmap` or `jax.pmap`: the statistics are those of all devices
        together, whose parts are of one size. One sum of 2 * channels numbers for each device
        forward, one of 2 * channels backward.

    Returns
    -------
    y : Array
        The shape and dtype of `x`.
    running_mean, running_var : Array (channels,)
        The updated ones; the batch's mean and biased variance (with `unbiased_running_var` the
        unbiased one) where none were given.

    Raises
    ------
    TypeError, ValueError
        For wrong shapes, dtypes or numbers, while the program is traced; for one element per
        channel where an unbiased variance is asked for.

    Notes
    -----
    No gradient flows through the statistics that are returned, as they are not part of a loss. The
    gradients cannot be differentiated again, and forward-mode differentiation is refused by JAX.

    Under `jax.vmap` each member of the batch has statistics of its own, in one call. An array that
    is sharded over devices is gathered first unless the call is inside a `jax.shard_map`, because
    XLA cannot look into kernels that are not its own.

    Channels are float32, float64 where `x` is; float16 and bfloat16 ones are converted. `mean`
    keeps a relative accuracy of 1e-5 of the variance where it is 1e4 standard deviations; Flax
    takes ``E[x^2] - E[x]^2``, which has none left there.
    """
    x = require_array("x", x)
    options = _options(x, eps, negative_slope, channel_axis, axis_name)
    if (running_mean is None) != (running_var is None):
        given = "running_var" if running_mean is None else "running_mean"
        raise ValueError(
            f"`running_mean` and `running_var` must be given together. Received: only `{given}`"
        )
    if unbiased_running_var and options.elements * options.devices == 1:
        raise ValueError(
            "`x` must have more than one element per channel where `unbiased_running_var` is true. "
            f"Received: shape={x.shape}"
        )
    options = options._replace(
        momentum=require_number("momentum", momentum, 0, 1),
        unbiased_running_var=bool(unbiased_running_var),
    )
    zeros = jnp.zeros(x.shape[options.channel_axis], vector_dtype(x))
    if running_mean is None:
        # With momentum 1 running statistics are the batch's.
        running_mean, running_var, options = zeros, zeros, options._replace(momentum=1.0)
    running = jnp.asarray(running_mean), jnp.asarray(running_var)
    vectors = _vectors(x, options, gamma, beta, *running)
    axes = axes_of(x) if axis_name is None else axes_of(x, lax.axis_index(axis_name))
    if axis_name is None:
        results = _training(*_varying(axes, x, *vectors), options)
    else:
        results = training_across(*_varying(axes, x, *vectors[:2]), *vectors[2:], options)
    y, *moved = results
    mean, var = (
        lax.stop_gradient(vector).astype(given.dtype)
        for vector, given in zip(moved, running, strict=True)
    )
    return y, mean, var


def batch_norm_inference(
    x: Any,
    gamma: Vector,
    beta: Vector,
    running_mean: Any,
    running_var: Any,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
    channel_axis: int = -1,
) -> Any:
    """Normalise with given statistics of the population, scale, shift and activate.

    ``y = leaky_relu((x - running_mean) * gamma / sqrt(running_var + eps) + beta)``.

    Parameters
    ----------
    x, gamma, beta, eps, negative_slope, channel_axis
        As in :func:`batch_norm`.
    running_mean, running_var : Array (channels,)
        Constants: no gradient flows to them.

    Returns
    -------
    Array
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm`. A negative variance is an error of the running program.
    """
    x = require_array("x", x)
    options = _options(x, eps, negative_slope, channel_axis, None)
    vectors = _vectors(x, options, gamma, beta, running_mean, running_var)
    constants = (lax.stop_gradient(vector) for vector in vectors[2:])
    return _inference(*_varying(axes_of(x), x, *vectors[:2], *constants), options)


def _options(
    x: Any, eps: float, negative_slope: float | None, channel_axis: int, axis_name: Any
) -> Options:
    if x.ndim == 0:
        raise ValueError("`x` must have an axis of channels. Received: shape=()")
    axis = require_axis("channel_axis", channel_axis, x.ndim)
    slope = 1.0 if negative_slope is None else require_number("negative_slope", negative_slope)
    others = x.shape[:axis] + x.shape[axis + 1 :]
    known = all(isinstance(size, int) for size in others)
    if axis_name is not None and not known:
        raise ValueError(
            "`x` must have sizes that are known when the program is compiled where `axis_name` is "
            f"given. Received: shape={x.shape}"
        )
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    eps = require_number("eps", eps, 0)
    # What is in one array, the kernels count themselves.
    count = math.prod(others) if known else 0
    return Options(axis, count, eps, slope, axis_name=axis_name, devices=devices)


def _vectors(x: Any, options: Options, *given: Vector) -> Arrays:
    """Return gamma, beta and the running statistics in the dtype that the kernels want."""
    names = ("gamma", "beta", "running_mean", "running_var")
    channels, dtype = x.shape[options.channel_axis], vector_dtype(x)
    optional = (True, True, False, False)
    return tuple(
        None if may_be_none and vector is None else require_vector(name, vector, channels, dtype)
        for name, vector, may_be_none in zip(names, given, optional, strict=True)
    )


def _varying(axes: frozenset[Any], *arrays: Any) -> Arrays:
    return tuple(array if array is None else varying(array, axes) for array in arrays)
