"""PyTorch's optimizers: the default loop, foreach, fused, and the loop compiled."""

from __future__ import annotations

from typing import Any

import torch

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.check import OPTIMIZER_STEPS, sample_params
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError, aligned_copy
from fusednn.benchmarks.peers.torch_arrays import array_of, compiled, tensor_of
from fusednn.benchmarks.shapes import LEARNING_RATES, LISTS, OPTIMIZERS, Optimizer

#: Compiling a loop over more arrays takes minutes.
_MOST_COMPILED = 8


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    optimizer = OPTIMIZERS[case.variant]
    data = inputs.lists(case)
    params = [tensor_of(aligned_copy(p)).requires_grad_() for p in data.params]
    # Clipping, and Nesterov by foreach, overwrite the gradients.
    spoilt = optimizer.max_norm is not None or bool(optimizer.hyperparameters.get("nesterov"))
    for p, g in zip(params, data.grads, strict=True):
        p.grad = tensor_of(aligned_copy(g) if spoilt else g)
    if name == "torch-compile" and len(LISTS[case.subject]) > _MOST_COMPILED:
        raise UnavailableError("compiling a loop over so many arrays takes minutes")
    if name == "torch-fused" and optimizer.kind == "sgd" and case.dtype == "bfloat16":
        raise UnavailableError("torch's fused SGD leaves bfloat16 parameters unchanged (2.13, CPU)")
    how = {"torch-foreach": {"foreach": True}, "torch-fused": {"fused": True}}.get(name, {})
    chosen = make_optimizer(optimizer, params, LEARNING_RATES[case.dtype], how)

    def step() -> None:
        if optimizer.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, optimizer.max_norm)
        chosen.step()

    run = compiled(step) if name == "torch-compile" else step

    def answer() -> Answer:
        for _ in range(OPTIMIZER_STEPS):
            if spoilt:
                for p, g in zip(params, data.grads, strict=True):
                    p.grad.copy_(tensor_of(g))
            run()
        return sample_params([array_of(p) for p in params])

    return Contender(run, answer, reuses=True)


def make_optimizer(optimizer: Optimizer, params: Any, lr: float, how: dict[str, Any]) -> Any:
    """Return torch's optimizer of this kind.

    Raises
    ------
    UnavailableError
        If torch has no fused form of it.
    """
    options = dict(optimizer.hyperparameters)
    if "rho" in options:
        options["alpha"] = options.pop("rho")
    if optimizer.weight_decay:
        options["weight_decay"] = optimizer.weight_decay
    names = {"sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adam": "Adam"}
    name = "AdamW" if optimizer.weight_decay else names[optimizer.kind]
    try:
        return getattr(torch.optim, name)(params, lr=lr, **options, **how)
    except TypeError as error:
        raise UnavailableError(f"torch has no fused {name}") from error
