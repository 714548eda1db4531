"""The right answers, in float64 NumPy, for the parts of them that are compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks import inputs, samples
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, as_float64
from fusednn.benchmarks.optimizers import LEARNING_RATES, OPTIMIZERS, Optimizer
from fusednn.benchmarks.plain_network import PlainNetwork
from fusednn.benchmarks.shapes import EPS, MODELS, NEGATIVE_SLOPE

Array = NDArray[Any]

# The largest error of what is activated: some sum NHWC channels one element after the other.
_UNDECIDED = {"float32": 2e-4, "bfloat16": 2e-4, "float16": 2e-4, "float64": 1e-12}


def _batch_norm(case: Case) -> Answer:
    data = inputs.activations(case)
    sampled = {
        "x": data.x,
        "grad": data.grad,
        "gamma": data.gamma,
        "beta": data.beta,
        "mean": data.running_mean,
        "var": data.running_var,
    }
    arrays = samples.sample_channels(data, sampled)
    axes = data.layout.other_axes
    shape = list(data.layout.per_channel())
    shape[data.layout.channel_axis] = -1
    x, grad = arrays["x"], arrays["grad"]
    gamma, beta = arrays["gamma"].reshape(shape), arrays["beta"].reshape(shape)
    if case.variant == "inference":
        mean, var = arrays["mean"].reshape(shape), arrays["var"].reshape(shape)
    else:
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    inv_std = 1 / np.sqrt(var + EPS)
    xhat = (x - mean) * inv_std
    z = xhat * gamma + beta
    answer = {}
    if case.variant != "backward":
        answer["y"] = np.where(z > 0, z, NEGATIVE_SLOPE * z)
    if case.variant in ("backward", "both", "in_place"):
        g = np.where(z > 0, grad, NEGATIVE_SLOPE * grad)
        sum_grad = g.sum(axes, keepdims=True)
        sum_grad_xhat = (g * xhat).sum(axes, keepdims=True)
        count = x.size / sum_grad.size
        # Rounding decides the side of 0 on which these lie, hence the derivative: either is right.
        undecided = np.abs(z) < _UNDECIDED[case.dtype]
        jump = np.where(undecided, np.abs((1 - NEGATIVE_SLOPE) * grad), 0)
        answer["grad_x" + samples.SLACK] = np.where(undecided, np.inf, 0)
        answer["grad_gamma" + samples.SLACK] = np.abs(jump * xhat).sum(axes).reshape(-1)
        answer["grad_beta" + samples.SLACK] = jump.sum(axes).reshape(-1)
        answer["grad_x"] = gamma * inv_std * (g - sum_grad / count - xhat * sum_grad_xhat / count)
        answer["grad_gamma"] = sum_grad_xhat.reshape(-1)
        answer["grad_beta"] = sum_grad.reshape(-1)
    return answer


def _leaky_relu(case: Case) -> Answer:
    data = inputs.activations(case)
    arrays = samples.sample_channels(data, {"x": data.x, "grad": data.grad})
    if case.variant == "forward":
        return {"y": np.where(arrays["x"] > 0, arrays["x"], NEGATIVE_SLOPE * arrays["x"])}
    grad = arrays["grad"]
    return {"grad_x": np.where(arrays["x"] > 0, grad, NEGATIVE_SLOPE * grad)}


def _optimizer(case: Case) -> Answer:
    data = inputs.lists(case)
    optimizer = OPTIMIZERS[case.variant]
    p = np.concatenate(samples.sample_arrays(data.params))
    g = _prepared(data, optimizer)
    with inputs.turned(data.grads):
        turned = _prepared(data, optimizer)
    lr = LEARNING_RATES[case.dtype]
    states = [np.zeros_like(p) for _ in range(3)]
    ema = p
    for step, grad in enumerate((g, turned), 1):
        if optimizer.decoupled:
            p = p * (1 - lr * optimizer.weight_decay)
        else:
            grad = grad + optimizer.weight_decay * p
        p = p - lr * _DIRECTIONS[optimizer.kind](grad, states, step, optimizer.hyperparameters)
        if optimizer.ema_momentum is not None:
            momentum = optimizer.ema_momentum if step > 1 else 0.0
            ema = momentum * ema + (1 - momentum) * p
    answer = {"params": p}
    if optimizer.ema_momentum is not None:
        answer["ema"] = ema
    if optimizer.low_precision_copy:
        answer["low_precision_copies"] = p
    return answer


def _prepared(data: inputs.Lists, optimizer: Optimizer) -> Array:
    """Return the samples of the gradients, unscaled and clipped."""
    parts = samples.sample_arrays(data.grads)
    if optimizer.grad_scale is not None:
        parts = [part / optimizer.grad_scale for part in parts]
    if optimizer.clip_value is not None:
        parts = [np.clip(part, -optimizer.clip_value, optimizer.clip_value) for part in parts]
    if optimizer.max_norm is not None:
        factor = _clipping(_squares(data.grads), optimizer.max_norm)
        parts = [part * factor for part in parts]
    if optimizer.max_norm_each is not None:
        arrays = samples.sampled(data.grads)
        factors = [_clipping(_squares([array]), optimizer.max_norm_each) for array in arrays]
        parts = [part * factor for part, factor in zip(parts, factors, strict=True)]
    return np.concatenate(parts)


def _squares(grads: list[Array]) -> float:
    return sum(float(np.sum(np.square(as_float64(grad)))) for grad in grads)


def _clipping(squares: float, limit: float) -> float:
    return min(1.0, limit / (math.sqrt(squares) + 1e-6))


def _sgd(g: Array, s: list[Array], step: int, h: dict[str, Any]) -> Array:
    momentum = h.get("momentum", 0.0)
    s[0] = momentum * s[0] + g
    return g + momentum * s[0] if h.get("nesterov") else s[0]


def _adagrad(g: Array, s: list[Array], step: int, h: dict[str, Any]) -> Array:
    s[0] = s[0] + g * g
    direction: Array = g / (np.sqrt(s[0]) + h["eps"])
    return direction


def _rmsprop(g: Array, s: list[Array], step: int, h: dict[str, Any]) -> Array:
    rho = h["rho"]
    s[0] = rho * s[0] + (1 - rho) * g * g
    s[1] = rho * s[1] + (1 - rho) * g
    square = s[0] - s[1] ** 2 if h.get("centered") else s[0]
    s[2] = h.get("momentum", 0.0) * s[2] + g / (np.sqrt(square) + h["eps"])
    return s[2]


def _adam(g: Array, s: list[Array], step: int, h: dict[str, Any]) -> Array:
    beta1, beta2 = 0.9, 0.999
    s[0] = beta1 * s[0] + (1 - beta1) * g
    s[1] = beta2 * s[1] + (1 - beta2) * g * g
    s[2] = np.maximum(s[2], s[1])
    square = s[2] if h.get("amsgrad") else s[1]
    root = np.sqrt(square / (1 - beta2**step)) + h["eps"]
    direction: Array = s[0] / (1 - beta1**step) / root
    return direction


def _adamax(g: Array, s: list[Array], step: int, h: dict[str, Any]) -> Array:
    beta1, beta2 = 0.9, 0.999
    s[0] = beta1 * s[0] + (1 - beta1) * g
    s[1] = np.maximum(beta2 * s[1], np.abs(g) + h["eps"])
    return s[0] / (1 - beta1**step) / s[1]


def _nadam(g: Array, s: list[Array], step: int, h: dict[str, Any]) -> Array:
    beta1, beta2 = 0.9, 0.999
    s[0] = beta1 * s[0] + (1 - beta1) * g
    s[1] = beta2 * s[1] + (1 - beta2) * g * g
    mu = beta1 * (1 - 0.5 * 0.96 ** (h["momentum_decay"] * np.arange(1, step + 2)))
    product = np.cumprod(mu)
    root = np.sqrt(s[1] / (1 - beta2**step)) + h["eps"]
    own = (1 - mu[-2]) / (1 - product[-2]) * g
    direction: Array = (own + mu[-1] / (1 - product[-1]) * s[0]) / root
    return direction


_DIRECTIONS: dict[str, Callable[[Array, list[Array], int, dict[str, Any]], Array]] = {
    "sgd": _sgd,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamax": _adamax,
    "nadam": _nadam,
}


def _step(case: Case) -> Answer:
    network = PlainNetwork(inputs.training(case), MODELS[case.subject], np.dtype(np.float64))
    return {"losses": np.array([network.step() for _ in range(samples.TRAINING_STEPS)])}


def _neighbour(case: Case) -> Answer:
    return ANSWERS[case.under_test.family](case.under_test)


ANSWERS: dict[str, Callable[[Case], Answer]] = {
    "neighbour": _neighbour,
    "batch_norm": _batch_norm,
    "leaky_relu": _leaky_relu,
    "optimizer": _optimizer,
    "step": _step,
}
