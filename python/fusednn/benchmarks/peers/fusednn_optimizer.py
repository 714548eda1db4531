"""fusednn's optimizer steps, with and without an option, and passes of the same traffic."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from fusednn import ops
from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import Array, UnavailableError
from fusednn.benchmarks.optimizers import LEARNING_RATES, OPTIMIZERS, Optimizer
from fusednn.benchmarks.peers.roof import build_roof
from fusednn.benchmarks.samples import sample_lists


def build(case: Case, name: str) -> Contender:
    """Return the contender: the roof, or one call for the whole list."""
    if name.startswith("roof"):
        return build_roof(case, name)
    optimizer = OPTIMIZERS[case.variant]
    note = ""
    if name == "fusednn-plain":
        if optimizer.plain is None:
            raise UnavailableError("the case has no option that could be left out")
        note = f"{optimizer.plain}, without the option"
        optimizer = OPTIMIZERS[optimizer.plain]
    data = inputs.lists(case)
    params = [inputs.aligned_copy(p) for p in data.params]
    options: dict[str, Any] = {
        "lr": LEARNING_RATES[case.dtype],
        **optimizer.hyperparameters,
        **_states(optimizer, params),
        **_options(optimizer, params),
    }
    step_function: Any = partial(getattr(ops, f"{optimizer.kind}_step"), params, **options)
    step = 0
    grads = inputs.Gradients(data, new=optimizer.new_gradients)

    def run() -> None:
        nonlocal step
        step += 1
        step_function(grads.arrays, step=step)

    def answer() -> Answer:
        for turn in (nullcontext, partial(inputs.turned, data.grads)):
            with turn():
                if grads.before is not None:
                    grads.before()
                run()
        copies = options.get("low_precision_copies")
        return sample_lists(params=params, ema=options.get("ema"), low_precision_copies=copies)

    checked = name != "fusednn-plain"
    return Contender(run, answer, reuses=True, before=grads.before, checked=checked, note=note)


def _zeros(params: list[Array]) -> list[Array]:
    # There are no float16 states.
    dtypes = [np.dtype(np.float32) if p.dtype == np.float16 else p.dtype for p in params]
    zeros = [inputs.aligned_empty(p.shape, d) for p, d in zip(params, dtypes, strict=True)]
    for array in zeros:
        array.fill(0)
    return zeros


def _states(optimizer: Optimizer, params: list[Array]) -> dict[str, Any]:
    states: dict[str, Any] = {}
    for name in optimizer.states:
        if optimizer.quantized:
            signed = name in ("exp_avgs", "momentum_buffers")
            states[name] = [ops.quantized_state(p, signed=signed) for p in params]
        else:
            states[name] = _zeros(params)
    if optimizer.kind == "sgd":
        states.setdefault("momentum_buffers", None)
    return states


def _options(optimizer: Optimizer, params: list[Array]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "grad_scale": optimizer.grad_scale,
        "clip_value": optimizer.clip_value,
        "max_norm": optimizer.max_norm,
        "max_norm_each": optimizer.max_norm_each,
        "skip_nonfinite": optimizer.skip_nonfinite,
    }
    if optimizer.weight_decay:
        options["weight_decay"] = optimizer.weight_decay
        options["decoupled_weight_decay"] = optimizer.decoupled
    if optimizer.ema_momentum is not None:
        options |= {"ema": _zeros(params), "ema_momentum": optimizer.ema_momentum}
    if optimizer.low_precision_copy:
        short = inputs.numpy_dtype("bfloat16")
        options["low_precision_copies"] = [inputs.aligned_empty(p.shape, short) for p in params]
    if optimizer.stochastic_rounding:
        options["stochastic_rounding_seed"] = inputs.SEED
    return options
