"""Optimizers in plain NumPy: each array in turn, with scratch arrays that are reused."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.check import OPTIMIZER_STEPS, sample_params
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.shapes import LEARNING_RATES, OPTIMIZERS

Array = NDArray[Any]
Scratch = tuple[Array, Array]


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    if case.dtype == "bfloat16":
        raise UnavailableError("NumPy's arithmetic has no bfloat16")
    optimizer = OPTIMIZERS[case.variant]
    data = inputs.lists(case)
    params = [inputs.aligned_copy(p) for p in data.params]
    states = [[np.zeros_like(p) for _ in optimizer.states] for p in params]
    scratch = {p.shape: (np.empty_like(p), np.empty_like(p)) for p in params}
    update = _UPDATES[optimizer.kind]
    lr, decay = LEARNING_RATES[case.dtype], 1 - LEARNING_RATES[case.dtype] * optimizer.weight_decay
    step = 0

    def run() -> None:
        nonlocal step
        step += 1
        factor = 1.0
        if optimizer.max_norm is not None:
            norm = sqrt(sum(float(np.vdot(g, g)) for g in data.grads))
            factor = min(1.0, optimizer.max_norm / (norm + 1e-6))
        for p, g, s in zip(params, data.grads, states, strict=True):
            if factor != 1.0:
                g = g * factor
            if decay != 1.0:
                p *= decay
            p -= update(g, s, scratch[p.shape], step, lr, optimizer.hyperparameters)

    def answer() -> Answer:
        for _ in range(OPTIMIZER_STEPS):
            run()
        return sample_params(params)

    return Contender(run, answer, reuses=True)


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


_UPDATES: dict[str, Callable[..., Array]] = {
    "sgd": _sgd,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adam": _adam,
}
