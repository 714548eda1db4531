"""Keras' optimizers: on JAX the stateless step, jitted and donated; on torch ``apply``."""

from __future__ import annotations

from typing import Any

import keras

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.optimizers import LEARNING_RATES, OPTIMIZERS, Optimizer
from fusednn.benchmarks.peers.keras_backend import ON_JAX, jitted, to_tensor, wait_for
from fusednn.benchmarks.samples import OPTIMIZER_STEPS, sample_lists


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    if case.dtype != "float32":
        raise UnavailableError("Keras rounds hyper-parameters to short types and to float32")
    chosen = OPTIMIZERS[case.variant]
    if chosen.lacking_in_peers or chosen.skip_nonfinite or chosen.low_precision_copy:
        raise UnavailableError("Keras has no such option")
    if chosen.weight_decay and not chosen.decoupled:
        raise UnavailableError("Keras' decay is decoupled")
    data = inputs.lists(case)
    optimizer = make_optimizer(chosen, LEARNING_RATES[case.dtype])
    variables = [keras.Variable(to_tensor(p), dtype=case.dtype) for p in data.params]
    grads = [to_tensor(g) for g in data.grads]
    with inputs.turned(data.grads):
        turned = [to_tensor(g) for g in data.grads]
    optimizer.build(variables)
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if not ON_JAX:
        given = grads

        def new_gradients() -> None:
            nonlocal given
            given = [keras.ops.copy(g) for g in grads]

        def answer() -> Answer:
            optimizer.apply(grads, variables)
            optimizer.apply(turned, variables)
            turned.clear()
            return _sampled(variables, averages if chosen.ema_momentum is not None else None)

        before = new_gradients if chosen.new_gradients else None
        return Contender(
            lambda: optimizer.apply(given, variables), answer, reuses=True, before=before
        )

    step = jitted(optimizer.stateless_apply, donated=(0, 2))
    # Copies: what is donated must not be what the variables hold.
    latest: list[Any] = [
        [keras.ops.copy(v.value) for v in variables],
        [keras.ops.copy(v.value) for v in optimizer.variables],
    ]

    def run(grads: Any = grads) -> None:
        latest[:] = step(latest[1], grads, latest[0])

    def answer_on_jax() -> Answer:
        run()
        run(turned)
        turned.clear()
        if chosen.ema_momentum is None:
            return _sampled(latest[0], None)
        places = {id(v): i for i, v in enumerate(optimizer.variables)}
        return _sampled(latest[0], [latest[1][places[id(v)]] for v in averages or ()])

    return Contender(run, answer_on_jax, reuses=True, finish=lambda: wait_for(latest))


def _sampled(params: Any, ema: Any) -> Answer:
    return sample_lists(
        params=[keras.ops.convert_to_numpy(p) for p in params],
        ema=None if ema is None else [keras.ops.convert_to_numpy(e) for e in ema],
    )


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
    if optimizer.max_norm_each is not None:
        options["clipnorm"] = optimizer.max_norm_each
    if optimizer.clip_value is not None:
        options["clipvalue"] = optimizer.clip_value
    if optimizer.grad_scale is not None:
        options["loss_scale_factor"] = optimizer.grad_scale
    if optimizer.ema_momentum is not None:
        options |= {"use_ema": True, "ema_momentum": optimizer.ema_momentum}
    names = {"sgd": "SGD", "rmsprop": "RMSprop"}
    name = names.get(optimizer.kind, optimizer.kind.capitalize())
    chosen = getattr(keras.optimizers, name)
    return chosen(learning_rate=lr, **options)
