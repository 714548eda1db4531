"""Keras' optimizers: on JAX the stateless step, jitted and donated; on torch ``apply``."""

from __future__ import annotations

from typing import Any

import keras

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.check import OPTIMIZER_STEPS, sample_params
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.peers.keras_backend import ON_JAX, jitted, to_tensor, wait_for
from fusednn.benchmarks.shapes import LEARNING_RATES, OPTIMIZERS, Optimizer


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    if case.dtype != "float32":
        raise UnavailableError("Keras rounds hyper-parameters to bfloat16, or float64's to float32")
    data = inputs.lists(case)
    optimizer = make_optimizer(OPTIMIZERS[case.variant], LEARNING_RATES[case.dtype])
    variables = [keras.Variable(to_tensor(p), dtype=case.dtype) for p in data.params]
    grads = [to_tensor(g) for g in data.grads]
    optimizer.build(variables)
    if not ON_JAX:
        return Contender(
            lambda: optimizer.apply(grads, variables),
            lambda: _answer(lambda: optimizer.apply(grads, variables), lambda: variables),
            reuses=True,
        )

    step = jitted(optimizer.stateless_apply, donated=(0, 2))
    # Copies: what is donated must not be what the variables hold.
    latest: list[Any] = [
        [keras.ops.copy(v.value) for v in variables],
        [keras.ops.copy(v.value) for v in optimizer.variables],
    ]

    def run() -> None:
        latest[:] = step(latest[1], grads, latest[0])

    return Contender(
        run, lambda: _answer(run, lambda: latest[0]), reuses=True, finish=lambda: wait_for(latest)
    )


def _answer(run: Any, params: Any) -> Answer:
    for _ in range(OPTIMIZER_STEPS):
        run()
    return sample_params([keras.ops.convert_to_numpy(p) for p in params()])


def make_optimizer(optimizer: Optimizer, lr: float) -> Any:
    """Return Keras' optimizer of this kind."""
    given = dict(optimizer.hyperparameters)
    options: dict[str, Any] = {}
    if "eps" in given:
        options["epsilon"] = given["eps"]
    for name in ("momentum", "nesterov", "rho", "centered", "amsgrad"):
        if name in given:
            options[name] = given[name]
    if optimizer.kind == "adam":
        # Keras adds epsilon to the root before its correction; this is nearly torch's then.
        options["epsilon"] *= (1 - 0.999**OPTIMIZER_STEPS) ** 0.5
    if optimizer.kind == "adagrad":
        options["initial_accumulator_value"] = 0.0
    if optimizer.weight_decay:
        options["weight_decay"] = optimizer.weight_decay
    if optimizer.max_norm is not None:
        options["global_clipnorm"] = optimizer.max_norm
    names = {"sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adam": "Adam"}
    chosen = getattr(keras.optimizers, names[optimizer.kind])
    return chosen(learning_rate=lr, **options)
