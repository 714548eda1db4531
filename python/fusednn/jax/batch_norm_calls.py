"""The handlers of BatchNorm as functions; `csrc/xla/batch_norm*.cpp` say their operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fusednn.jax.calls import Shaped, call

Vector = Any  # (channels,), or None where it may be absent
Arrays = tuple[Any, ...]

_GAMMA, _BETA, _RUNNING = 1, 2, 4


class Options(NamedTuple):
    """What a program is compiled for."""

    channel_axis: int
    elements: int  # per channel, of one device; 0 where sizes are symbols
    eps: float = 0.0
    negative_slope: float = 1.0
    momentum: float = 0.0
    unbiased_running_var: bool = False
    axis_name: Any = None
    devices: int = 1  # along `axis_name`


def _numbers(options: Options, rank: int, given: int) -> list[float]:
    """Return what `BatchNormAttributes` are made of."""
    return [
        rank,
        options.channel_axis,
        options.eps,
        options.momentum,
        options.negative_slope,
        options.unbiased_running_var,
        options.elements,
        given,
    ]


def _call(
    name: str,
    options: Options,
    operands: list[Any],
    results: Sequence[Shaped],
    gamma: Vector = None,
    beta: Vector = None,
    aliases: dict[int, int] | None = None,
) -> Arrays:
    given = _GAMMA * (gamma is not None) | _BETA * (beta is not None) | _RUNNING * bool(aliases)
    numbers = _numbers(options, operands[0].ndim, given)
    operands = [x for x in operands if x is not None]
    return call(name, operands, results, numbers, aliases)


def vector_dtype(x: Any) -> Any:
    """Return the dtype of what `x` has one of per channel."""
    return np.dtype("float64" if x.dtype == np.float64 else "float32")


def _vector(x: Any, options: Options) -> Shaped:
    return (x.shape[options.channel_axis],), vector_dtype(x)


def forward(
    x: Any, gamma: Vector, beta: Vector, running_mean: Any, running_var: Any, options: Options
) -> Arrays:
    """Return `y`, `mean`, `inv_std` and the updated running statistics."""
    operands = [x, gamma, beta, running_mean, running_var]
    results = [(x.shape, x.dtype), *[_vector(x, options)] * 4]
    first = 1 + sum(vector is not None for vector in (gamma, beta))
    aliases = {first: 3, first + 1: 4}
    return _call("batch_norm_forward", options, operands, results, gamma, beta, aliases)


def backward(
    grad: Any, x: Any, gamma: Vector, beta: Vector, mean: Any, inv_std: Any, options: Options
) -> Arrays:
    """Return the gradients of `x`, `gamma` and `beta`, None for what is None."""
    return _gradients("batch_norm_backward", options, [grad, x, gamma, beta, mean, inv_std])


def inference(
    x: Any, gamma: Vector, beta: Vector, running_mean: Any, running_var: Any, options: Options
) -> Any:
    """Return `y`."""
    operands, results = [x, gamma, beta, running_mean, running_var], [(x.shape, x.dtype)]
    return _call("batch_norm_inference", options, operands, results, gamma, beta)[0]


def inference_backward(
    grad: Any, x: Any, gamma: Vector, beta: Vector, mean: Any, var: Any, options: Options
) -> Arrays:
    """Return the gradients of `x`, `gamma` and `beta`, None for what is None."""
    return _gradients("batch_norm_inference_backward", options, [grad, x, gamma, beta, mean, var])


def _gradients(name: str, options: Options, operands: list[Any]) -> Arrays:
    _, x, gamma, beta, _, _ = operands
    results = [(x.shape, x.dtype), *[_vector(x, options)] * 2]
    grad_x, *others = _call(name, options, operands, results, gamma, beta)
    pairs = zip((gamma, beta), others, strict=True)
    return (grad_x, *(None if vector is None else grad for vector, grad in pairs))


def statistics(x: Any, options: Options) -> Arrays:
    """Return mean and sum of squared deviations of each channel."""
    return _call("batch_norm_statistics", options, [x], [_vector(x, options)] * 2)


def merge(means: Any, m2s: Any, options: Options) -> Arrays:
    """Return the statistics of all rows together, each of ``options.elements`` elements."""
    results = [((int(means.shape[1]),), means.dtype)] * 2
    return _call("batch_norm_merge", options, [means, m2s], results)


def apply(x: Any, mean: Any, inv_std: Any, gamma: Vector, beta: Vector, options: Options) -> Any:
    """Return `y`."""
    operands, results = [x, mean, inv_std, gamma, beta], [(x.shape, x.dtype)]
    return _call("batch_norm_apply", options, operands, results, gamma, beta)[0]


def backward_reduce(
    grad: Any, x: Any, gamma: Vector, beta: Vector, mean: Any, inv_std: Any, options: Options
) -> Arrays:
    """Return this part's ``sum(g)`` and ``sum(g * xhat)`` of each channel."""
    operands, results = [grad, x, gamma, beta, mean, inv_std], [_vector(x, options)] * 2
    return _call("batch_norm_backward_reduce", options, operands, results, gamma, beta)


def backward_apply(
    grad: Any,
    x: Any,
    gamma: Vector,
    beta: Vector,
    mean: Any,
    inv_std: Any,
    sum_grad: Any,
    sum_grad_xhat: Any,
    options: Options,
) -> Any:
    """Return the gradient of `x` from the sums over ``options.elements`` elements per channel."""
    operands = [grad, x, gamma, beta, mean, inv_std, sum_grad, sum_grad_xhat]
    results = [(x.shape, x.dtype)]
    return _call("batch_norm_backward_apply", options, operands, results, gamma, beta)[0]
