"""Leaky ReLU in JAX, jitted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.peers.jax_arrays import Latest, device_array, use_dtype
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    use_dtype(case)
    data = inputs.activations(case)
    x, grad = device_array(data.x), device_array(data.grad)
    forward = case.variant == "forward"

    def function(x: Any, grad: Any) -> Any:
        value = x if forward else grad
        return jnp.where(x > 0, value, NEGATIVE_SLOPE * value)

    jitted = jax.jit(function)
    latest = Latest()

    def run() -> None:
        latest.result = jitted(x, x if forward else grad)

    def answer() -> Answer:
        run()
        name = "y" if forward else "grad_x"
        return sample_channels(data, {name: np.asarray(latest.result)})

    return Contender(run, answer, reuses=False, finish=latest.wait)
