"""optax's optimizers, the whole step jitted, parameters and states donated."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.optimizers import LEARNING_RATES, OPTIMIZERS, Optimizer
from fusednn.benchmarks.peers.jax_arrays import Latest, device_array, use_dtype
from fusednn.benchmarks.samples import sample_lists


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    use_dtype(case)
    optimizer = OPTIMIZERS[case.variant]
    if optimizer.lacking_in_peers:
        raise UnavailableError(f"optax has no {optimizer.lacking_in_peers} for parameters")
    data = inputs.lists(case)
    transform = make_transform(optimizer, LEARNING_RATES[case.dtype])
    params = [device_array(p) for p in data.params]
    grads = [device_array(g) for g in data.grads]

    def step(state: Any, grads: Any) -> dict[str, Any]:
        params = state["params"]
        if optimizer.grad_scale is not None:
            grads = jax.tree.map(lambda g: g / optimizer.grad_scale, grads)
        if optimizer.max_norm_each is not None:
            limit = optimizer.max_norm_each
            grads = jax.tree.map(lambda g: g * jnp.minimum(1, limit / jnp.linalg.norm(g)), grads)
        updates, states = transform.update(grads, state["states"], params)
        new = {"params": optax.apply_updates(params, updates), "states": states}
        if optimizer.ema_momentum is not None:
            # At the first step a copy; the count is kept beside the average.
            weight = jnp.where(state["count"] == 0, 1.0, 1 - optimizer.ema_momentum)
            new["ema"] = jax.tree.map(
                lambda e, p: e + weight.astype(e.dtype) * (p - e), state["ema"], new["params"]
            )
            new["count"] = state["count"] + 1
        if optimizer.low_precision_copy:
            new["low_precision_copies"] = [p.astype(jnp.bfloat16) for p in new["params"]]
        return new

    jitted = jax.jit(step, donate_argnums=0)
    latest = Latest()
    latest.result = {"params": params, "states": transform.init(params)}
    if optimizer.ema_momentum is not None:
        latest.result |= {"ema": [jnp.copy(p) for p in params], "count": jnp.zeros((), jnp.int32)}
    if optimizer.low_precision_copy:
        latest.result["low_precision_copies"] = [p.astype(jnp.bfloat16) for p in params]
    del params

    def run() -> None:
        latest.result = jitted(latest.result, grads)

    def answer() -> Answer:
        run()
        with inputs.turned(data.grads):
            turned = [device_array(g) for g in data.grads]
        latest.result = jitted(latest.result, turned)
        names = ("params", "ema", "low_precision_copies")
        lists = {n: latest.result[n] for n in names if n in latest.result}
        return sample_lists(**{n: [np.asarray(a) for a in arrays] for n, arrays in lists.items()})

    # optax takes the maximum of corrected averages, and has no schedule of Nadam's momentum: the
    # same work on other numbers.
    other = "Nadam" if optimizer.kind == "nadam" else ""
    if optimizer.hyperparameters.get("amsgrad"):
        other = "AMSGrad"
    note = f"optax's own {other}, not checked" if other else ""
    return Contender(run, answer, reuses=True, finish=latest.wait, checked=not other, note=note)


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
    elif optimizer.kind in ("adamax", "nadam"):
        chosen = getattr(optax, optimizer.kind)(lr, eps=options["eps"])
    elif optimizer.decoupled:
        chosen = optax.adamw(lr, eps=options["eps"], weight_decay=optimizer.weight_decay)
    else:
        chosen = optax.adam(lr, eps=options["eps"])
    before = []
    if optimizer.clip_value is not None:
        before.append(optax.clip(optimizer.clip_value))
    if optimizer.max_norm is not None:
        before.append(optax.clip_by_global_norm(optimizer.max_norm))
    if optimizer.weight_decay and not optimizer.decoupled:
        before.append(optax.add_decayed_weights(optimizer.weight_decay))
    if before:
        chosen = optax.chain(*before, chosen)
    return optax.apply_if_finite(chosen, 1) if optimizer.skip_nonfinite else chosen
