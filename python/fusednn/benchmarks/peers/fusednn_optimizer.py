"""fusednn's optimizer steps, and passes over memory of the same traffic."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn import ops
from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.check import OPTIMIZER_STEPS, sample_params
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.peers.roof import build_roof
from fusednn.benchmarks.shapes import LEARNING_RATES, OPTIMIZERS


def build(case: Case, name: str) -> Contender:
    """Return the contender: the roof, or one call for the whole list."""
    if name.startswith("roof"):
        return build_roof(case, name)
    optimizer = OPTIMIZERS[case.variant]
    data = inputs.lists(case)
    params = [inputs.aligned_copy(p) for p in data.params]
    states: dict[str, Any] = {
        state: [np.zeros_like(p) for p in params] for state in optimizer.states
    }
    if optimizer.kind == "sgd":
        states.setdefault("momentum_buffers", None)
    step_function: Any = getattr(ops, f"{optimizer.kind}_step")
    options: dict[str, Any] = {"lr": LEARNING_RATES[case.dtype], **optimizer.hyperparameters}
    if optimizer.weight_decay:
        options |= {"weight_decay": optimizer.weight_decay, "decoupled_weight_decay": True}
    if optimizer.max_norm is not None:
        options["max_norm"] = optimizer.max_norm
    options |= states
    step = 0

    def run() -> None:
        nonlocal step
        step += 1
        step_function(params, data.grads, step=step, **options)

    def answer() -> Answer:
        for _ in range(OPTIMIZER_STEPS):
            run()
        return sample_params(params)

    return Contender(run, answer, reuses=True)
