"""A training step of `fusednn.Sequential`, and the matrix products in it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.samples import TRAINING_STEPS
from fusednn.benchmarks.shapes import EPS, MODELS, MOMENTUM, NEGATIVE_SLOPE, STEP_LEARNING_RATE
from fusednn.blas_threads import shared_blas_threads


def build(case: Case, name: str) -> Contender:
    """Return the contender: the roof, or ``train_on_batch``; "fusednn-apart" shares no threads."""
    contender = _products(case) if name == "roof" else _train_on_batch(case)
    if name == "fusednn-apart":
        return replace(contender, note="NumPy's products on threads of their own")
    return replace(contender, surroundings=shared_blas_threads)


def _train_on_batch(case: Case) -> Contender:
    from fusednn import Input, Sequential, layers, losses, optimizers

    data = inputs.training(case)
    widths = MODELS[case.subject].widths
    model = Sequential([Input((widths[0],))])
    for width in widths[1:-1]:
        model.add(layers.Dense(width))
        model.add(layers.BatchNormalization(momentum=1 - MOMENTUM, epsilon=EPS))
        model.add(layers.LeakyReLU(NEGATIVE_SLOPE))
    model.add(layers.Dense(widths[-1]))
    model.compile(
        optimizers.Adam(STEP_LEARNING_RATE, epsilon=1e-8),
        losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    for layer, kernel in zip(dense, data.kernels, strict=True):
        layer.set_weights([kernel, np.zeros(kernel.shape[1], kernel.dtype)])

    def step() -> Any:
        return model.train_on_batch(data.x, data.labels)

    def answer() -> Answer:
        return {"losses": np.array([float(step()) for _ in range(TRAINING_STEPS)])}

    return Contender(step, answer, reuses=True)


def _products(case: Case) -> Contender:
    data = inputs.training(case)
    batch = MODELS[case.subject].batch
    calls: list[tuple[Any, Any, Any]] = []
    for i, kernel in enumerate(data.kernels):
        x = data.x if i == 0 else np.ones((batch, kernel.shape[0]), kernel.dtype)
        y = np.ones((batch, kernel.shape[1]), kernel.dtype)
        calls.append((x, kernel, y))
        calls.append((x.T, np.ones_like(y), np.empty_like(kernel)))
        if i > 0:
            calls.append((np.ones_like(y), kernel.T, np.empty_like(x)))

    def run() -> None:
        for a, b, out in calls:
            np.matmul(a, b, out=out)

    return Contender(run, dict, reuses=True, checked=False, note="the matrix products alone")
