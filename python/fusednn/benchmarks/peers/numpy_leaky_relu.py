"""Leaky ReLU in plain NumPy, with reused buffers."""

from __future__ import annotations

import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.peers.numpy_dtypes import refuse_short
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    refuse_short(case)
    data = inputs.activations(case)
    out = inputs.aligned_empty(data.x.shape, data.x.dtype)
    slope = data.x.dtype.type(NEGATIVE_SLOPE)
    forward = case.variant == "forward"

    def run() -> None:
        np.multiply(data.x if forward else data.grad, slope, out=out)
        if forward:
            np.maximum(data.x, out, out=out)  # for a slope from 0 to 1
        else:
            np.copyto(out, data.grad, where=data.x > 0)

    def answer() -> Answer:
        run()
        return sample_channels(data, {"y" if forward else "grad_x": out})

    return Contender(run, answer, reuses=True)
