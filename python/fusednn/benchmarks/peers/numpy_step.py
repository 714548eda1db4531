"""A training step in plain NumPy."""

from __future__ import annotations

import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.plain_network import PlainNetwork
from fusednn.benchmarks.samples import TRAINING_STEPS
from fusednn.benchmarks.shapes import MODELS


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    data = inputs.training(case)
    network = PlainNetwork(data, MODELS[case.subject], data.x.dtype)

    def answer() -> Answer:
        return {"losses": np.array([network.step() for _ in range(TRAINING_STEPS)])}

    return Contender(network.step, answer, reuses=False)
