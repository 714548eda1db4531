"""A training step in JAX with optax's Adam: one jitted function, its state donated."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.peers.jax_arrays import Latest, device_array, use_dtype
from fusednn.benchmarks.samples import TRAINING_STEPS
from fusednn.benchmarks.shapes import EPS, MOMENTUM, NEGATIVE_SLOPE, STEP_LEARNING_RATE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    use_dtype(case)
    data = inputs.training(case)
    kernels = [device_array(kernel) for kernel in data.kernels]
    widths = [kernel.shape[1] for kernel in kernels]
    params = {
        "kernels": kernels,
        "gammas": [jnp.ones(width) for width in widths[:-1]],
        "betas": [jnp.zeros(width) for width in widths[:-1]],
        "bias": jnp.zeros(widths[-1]),
    }
    running = [(jnp.zeros(width), jnp.ones(width)) for width in widths[:-1]]
    transform = optax.adam(STEP_LEARNING_RATE, eps=1e-8)
    x, labels = device_array(data.x), device_array(data.labels.astype(np.int32))

    def step(params: Any, running: Any, states: Any, x: Any, labels: Any) -> Any:
        (loss, running), grads = jax.value_and_grad(_loss, has_aux=True)(params, running, x, labels)
        updates, states = transform.update(grads, states, params)
        return optax.apply_updates(params, updates), running, states, loss

    jitted = jax.jit(step, donate_argnums=(0, 1, 2))
    latest = Latest()
    latest.result = (params, running, transform.init(params), None)
    del params, running, kernels

    def run() -> None:
        latest.result = jitted(*latest.result[:3], x, labels)

    def answer() -> Answer:
        losses = []
        for _ in range(TRAINING_STEPS):
            run()
            losses.append(float(latest.result[3]))
        return {"losses": np.array(losses)}

    return Contender(run, answer, reuses=True, finish=latest.wait)


def _loss(params: Any, running: Any, x: Any, labels: Any) -> tuple[Any, Any]:
    moved = []
    layers = zip(params["kernels"][:-1], params["gammas"], params["betas"], running, strict=True)
    for kernel, gamma, beta, (running_mean, running_var) in layers:
        z = x @ kernel
        mean = z.mean(0)
        var = jnp.square(z - mean).mean(0)
        moved.append(
            (
                (1 - MOMENTUM) * running_mean + MOMENTUM * mean,
                (1 - MOMENTUM) * running_var + MOMENTUM * var,
            )
        )
        y = (z - mean) * (gamma * jax.lax.rsqrt(var + EPS)) + beta
        x = jnp.where(y > 0, y, NEGATIVE_SLOPE * y)
    logits = x @ params["kernels"][-1] + params["bias"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), moved
