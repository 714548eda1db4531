"""Optimizers in plain NumPy: each array in turn, with scratch arrays that are reused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.optimizers import LEARNING_RATES, OPTIMIZERS, Optimizer
from fusednn.benchmarks.peers.numpy_dtypes import refuse_short
from fusednn.benchmarks.samples import sample_lists

Array = NDArray[Any]
Scratch = list[Array]


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    refuse_short(case)
    optimizer = OPTIMIZERS[case.variant]
    if optimizer.lacking_in_peers:
        raise UnavailableError(f"NumPy has no {optimizer.lacking_in_peers}")
    data = inputs.lists(case)
    params = [inputs.aligned_copy(p) for p in data.params]
    states = [[np.zeros_like(p) for _ in optimizer.states] for p in params]
    buffers = {p.shape: (np.empty_like(p), np.empty_like(p), np.empty_like(p)) for p in params}
    ema = None if optimizer.ema_momentum is None else [p.copy() for p in params]
    copies = None
    if optimizer.low_precision_copy:
        copies = [np.empty(p.shape, inputs.numpy_dtype("bfloat16")) for p in params]
    update, lr = _UPDATES[optimizer.kind], LEARNING_RATES[case.dtype]
    step = 0

    grads = inputs.Gradients(data, new=optimizer.new_gradients)

    def run() -> None:
        nonlocal step
        step += 1
        if optimizer.skip_nonfinite and not all(np.isfinite(g).all() for g in grads.arrays):
            return
        scale = 1.0 if optimizer.grad_scale is None else 1 / optimizer.grad_scale
        scale *= _clipping(grads.arrays, optimizer.max_norm)
        for p, g, s in zip(params, grads.arrays, states, strict=True):
            *scratch, own = buffers[p.shape]
            factor = scale * _clipping([g], optimizer.max_norm_each)
            g = _prepared(g, p, own, factor, optimizer)
            if optimizer.decoupled:
                p *= 1 - lr * optimizer.weight_decay
            p -= update(g, s, scratch, step, lr, optimizer.hyperparameters)
        for p, average in zip(params, ema or (), strict=bool(ema)):
            _average(average, p, (optimizer.ema_momentum or 0) * (step > 1), buffers[p.shape][0])
        for p, copy in zip(params, copies or (), strict=bool(copies)):
            copy[...] = p

    def answer() -> Answer:
        for turn in (nullcontext, partial(inputs.turned, data.grads)):
            with turn():
                if grads.before is not None:
                    grads.before()
                run()
        return sample_lists(params=params, ema=ema, low_precision_copies=copies)

    return Contender(run, answer, reuses=True, before=grads.before)


def _clipping(grads: list[Array], limit: float | None) -> float:
    """Return what gradients are multiplied by so that their norm is within the limit."""
    if limit is None:
        return 1.0
    norm = sqrt(sum(float(np.vdot(g, g)) for g in grads))
    return min(1.0, limit / (norm + 1e-6))


def _prepared(g: Array, p: Array, own: Array, factor: float, optimizer: Optimizer) -> Array:
    """Unscale and clip a gradient and add the decay to it; `own` is for the result."""
    if factor != 1.0:
        g = np.multiply(g, factor, out=own)
    if optimizer.clip_value is not None:
        g = np.clip(g, -optimizer.clip_value, optimizer.clip_value, out=own)
    if optimizer.weight_decay and not optimizer.decoupled:
        np.multiply(p, optimizer.weight_decay, out=own)
        g = np.add(own, g, out=own)
    return g


def _sgd(g: Array, s: list[Array], t: Scratch, step: int, lr: float, h: dict[str, Any]) -> Array:
    if not s:
        return np.multiply(g, lr, out=t[0])
    s[0] *= h["momentum"]
    s[0] += g
    if not h.get("nesterov"):
        return np.multiply(s[0], lr, out=t[0])
    np.multiply(s[0], h["momentum"], out=t[0])
    np.add(t[0], g, out=t[0])
    return np.multiply(t[0], lr, out=t[0])


def _adagrad(
    g: Array, s: list[Array], t: Scratch, step: int, lr: float, h: dict[str, Any]
) -> Array:
    s[0] += np.multiply(g, g, out=t[0])
    np.sqrt(s[0], out=t[0])
    np.add(t[0], h["eps"], out=t[0])
    np.divide(g, t[0], out=t[0])
    return np.multiply(t[0], lr, out=t[0])


def _average(average: Array, value: Array, decay: float, scratch: Array) -> None:
    average *= decay
    average += np.multiply(value, 1 - decay, out=scratch)


def _rmsprop(
    g: Array, s: list[Array], t: Scratch, step: int, lr: float, h: dict[str, Any]
) -> Array:
    _average(s[0], np.multiply(g, g, out=t[0]), h["rho"], t[0])
    square = s[0]
    if h.get("centered"):
        _average(s[1], g, h["rho"], t[0])
        square = np.subtract(s[0], np.multiply(s[1], s[1], out=t[0]), out=t[0])
    np.sqrt(square, out=t[0])
    np.add(t[0], h["eps"], out=t[0])
    np.divide(g, t[0], out=t[0])
    if "momentum" in h:
        s[1] *= h["momentum"]
        s[1] += t[0]
        return np.multiply(s[1], lr, out=t[0])
    return np.multiply(t[0], lr, out=t[0])


def _adam(g: Array, s: list[Array], t: Scratch, step: int, lr: float, h: dict[str, Any]) -> Array:
    beta1, beta2 = 0.9, 0.999
    _average(s[0], g, beta1, t[0])
    _average(s[1], np.multiply(g, g, out=t[0]), beta2, t[0])
    square = s[1]
    if h.get("amsgrad"):
        square = np.maximum(s[2], s[1], out=s[2])
    np.sqrt(square, out=t[0])
    np.multiply(t[0], 1 / sqrt(1 - beta2**step), out=t[0])
    np.add(t[0], h["eps"], out=t[0])
    np.divide(s[0], t[0], out=t[0])
    return np.multiply(t[0], lr / (1 - beta1**step), out=t[0])


def _adamax(g: Array, s: list[Array], t: Scratch, step: int, lr: float, h: dict[str, Any]) -> Array:
    beta1, beta2 = 0.9, 0.999
    _average(s[0], g, beta1, t[0])
    s[1] *= beta2
    np.abs(g, out=t[0])
    np.add(t[0], h["eps"], out=t[0])
    np.maximum(s[1], t[0], out=s[1])
    np.divide(s[0], s[1], out=t[0])
    return np.multiply(t[0], lr / (1 - beta1**step), out=t[0])


def _nadam(g: Array, s: list[Array], t: Scratch, step: int, lr: float, h: dict[str, Any]) -> Array:
    beta1, beta2 = 0.9, 0.999
    _average(s[0], g, beta1, t[0])
    _average(s[1], np.multiply(g, g, out=t[0]), beta2, t[0])
    mu = beta1 * (1 - 0.5 * 0.96 ** (h["momentum_decay"] * np.arange(1, step + 2)))
    before, after = float(mu[:-1].prod()), float(mu.prod())
    np.sqrt(s[1], out=t[0])
    np.multiply(t[0], 1 / sqrt(1 - beta2**step), out=t[0])
    np.add(t[0], h["eps"], out=t[0])
    np.multiply(g, float(1 - mu[-2]) / (1 - before), out=t[1])
    np.divide(t[1], t[0], out=t[1])
    np.divide(s[0], t[0], out=t[0])
    np.multiply(t[0], float(mu[-1]) / (1 - after), out=t[0])
    np.add(t[0], t[1], out=t[0])
    return np.multiply(t[0], lr, out=t[0])


_UPDATES: dict[str, Callable[..., Array]] = {
    "sgd": _sgd,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamax": _adamax,
    "nadam": _nadam,
}
