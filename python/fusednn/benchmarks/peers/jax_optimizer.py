"""optax's optimizers, the whole step jitted, parameters and states donated."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.check import OPTIMIZER_STEPS, sample_params
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.peers.jax_arrays import Latest, device_array, use_dtype
from fusednn.benchmarks.shapes import LEARNING_RATES, OPTIMIZERS, Optimizer


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    use_dtype(case)
    data = inputs.lists(case)
    transform = make_transform(OPTIMIZERS[case.variant], LEARNING_RATES[case.dtype])
    params = [device_array(p) for p in data.params]
    grads = [device_array(g) for g in data.grads]

    def step(params: Any, states: Any, grads: Any) -> tuple[Any, Any]:
        updates, states = transform.update(grads, states, params)
        return optax.apply_updates(params, updates), states

    jitted = jax.jit(step, donate_argnums=(0, 1))
    latest = Latest()
    latest.result = (params, transform.init(params))
    del params

    def run() -> None:
        latest.result = jitted(*latest.result, grads)

    def answer() -> Answer:
        for _ in range(OPTIMIZER_STEPS):
            run()
        return sample_params([np.asarray(p) for p in latest.result[0]])

    return Contender(run, answer, reuses=True, finish=latest.wait)


def make_transform(optimizer: Optimizer, lr: float) -> Any:
    """Return optax's transform of this kind."""
    options = dict(optimizer.hyperparameters)
    if optimizer.kind == "sgd":
        chosen = optax.sgd(lr, options.get("momentum"), bool(options.get("nesterov")))
    elif optimizer.kind == "adagrad":
        chosen = optax.adagrad(lr, initial_accumulator_value=0.0, eps=options["eps"])
    elif optimizer.kind == "rmsprop":
        chosen = optax.rmsprop(
            lr,
            decay=options["rho"],
            eps=options["eps"],
            eps_in_sqrt=False,
            centered=bool(options.get("centered")),
            momentum=options.get("momentum"),
        )
    elif options.get("amsgrad"):
        chosen = optax.amsgrad(lr, eps=options["eps"])
    elif optimizer.weight_decay:
        chosen = optax.adamw(lr, eps=options["eps"], weight_decay=optimizer.weight_decay)
    else:
        chosen = optax.adam(lr, eps=options["eps"])
    if optimizer.max_norm is not None:
        return optax.chain(optax.clip_by_global_norm(optimizer.max_norm), chosen)
    return chosen
