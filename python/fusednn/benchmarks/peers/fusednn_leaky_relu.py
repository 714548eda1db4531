"""fusednn's leaky ReLU, and passes over memory of the same traffic."""

from __future__ import annotations

from functools import partial

from fusednn import ops
from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Contender
from fusednn.benchmarks.peers.roof import build_roof
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender: the roof, or fusednn with reused or fresh output buffers."""
    if name.startswith("roof"):
        return build_roof(case, name)
    fresh = name.endswith("fresh")
    data = inputs.activations(case)
    out = None if fresh else inputs.aligned_empty(data.x.shape, data.x.dtype)
    if case.variant == "forward":
        call, result = partial(ops.leaky_relu, data.x, NEGATIVE_SLOPE, out=out), "y"
    else:
        call = partial(ops.leaky_relu_backward, data.grad, data.x, NEGATIVE_SLOPE, out=out)
        result = "grad_x"
    return Contender(call, lambda: sample_channels(data, {result: call()}), reuses=not fresh)
