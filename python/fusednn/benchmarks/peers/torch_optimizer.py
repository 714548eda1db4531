"""PyTorch's optimizers: the loop, foreach, fused, compiled, and fusednn's in their place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

import fusednn.torch.optim
from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError, aligned_copy
from fusednn.benchmarks.optimizers import LEARNING_RATES, OPTIMIZERS, Optimizer
from fusednn.benchmarks.peers.torch_arrays import array_of, compiled, tensor_of
from fusednn.benchmarks.samples import sample_lists
from fusednn.benchmarks.shapes import LISTS

#: Compiling a loop over more arrays takes minutes.
_MOST_COMPILED = 8
#: Where it is not the kind with a capital letter.
_NAMES = {"sgd": "SGD", "rmsprop": "RMSprop", "nadam": "NAdam"}


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    optimizer = OPTIMIZERS[case.variant]
    if optimizer.lacking_in_peers:
        raise UnavailableError(f"torch has no {optimizer.lacking_in_peers}")
    if name == "torch-compile" and len(LISTS[case.subject]) > _MOST_COMPILED:
        raise UnavailableError("compiling a loop over so many arrays takes minutes")
    compiled_in_double = name == "torch-compile" and case.dtype == "float64"
    if compiled_in_double and optimizer.kind in ("adam", "adamax"):
        raise UnavailableError(f"compiled, torch's {_name_of(optimizer)} corrects in float32")
    if optimizer.kind == "nadam" and case.dtype == "float64" and name != "fusednn-torch":
        raise UnavailableError("torch's NAdam keeps the product of its factors in float32")
    if name == "torch-fused":
        _refuse_if_idle(optimizer, case)
    how = {"torch-foreach": {"foreach": True}, "torch-fused": {"fused": True}}.get(name, {})
    steps = OwnSteps(optimizer, case) if name == "fusednn-torch" else Steps(optimizer, case, how)
    run = compiled(steps.run) if name == "torch-compile" else steps.run

    before = steps.renew_gradients if optimizer.new_gradients else None
    take_gradients = before or steps.take_gradients

    def answer() -> Answer:
        take_gradients()
        run()
        with inputs.turned(steps.data.grads):
            take_gradients()
            run()
        take_gradients()
        return sample_lists(
            **{
                list_name: None if tensors is None else [array_of(t) for t in tensors]
                for list_name, tensors in steps.results().items()
            }
        )

    return Contender(run, answer, reuses=True, before=before)


class Steps:
    """An optimizer's steps with one option, as one writes them in PyTorch."""

    package: Any = torch.optim

    def __init__(self, optimizer: Optimizer, case: Case, how: dict[str, Any]) -> None:
        self._optimizer = optimizer
        self.data = inputs.lists(case)
        self._params = [tensor_of(aligned_copy(p)).requires_grad_() for p in self.data.params]
        # Some options, and Nesterov by foreach, overwrite the gradients.
        self._spoilt = any(
            (
                optimizer.clips_by_norm,
                optimizer.clip_value,
                optimizer.hyperparameters.get("nesterov"),
            )
        )
        self._grads = [tensor_of(g) for g in self.data.grads]
        for p, g in zip(self._params, self._grads, strict=True):
            p.grad = torch.clone(g) if self._spoilt or optimizer.grad_scale is not None else g
        lr = LEARNING_RATES[case.dtype]
        self._chosen = make_optimizer(optimizer, self._params, lr, how, self.package)
        self._ema = self._copies = None
        if optimizer.ema_momentum is not None:
            self._ema = [p.detach().clone() for p in self._params]
        if optimizer.low_precision_copy:
            self._copies = [p.detach().to(torch.bfloat16) for p in self._params]
        self._averaged = False

    def take_gradients(self) -> None:
        """Have the gradients as they are in the inputs."""
        if self._spoilt:
            for p, g in zip(self._params, self._grads, strict=True):
                p.grad.copy_(g)

    def renew_gradients(self) -> None:
        """Have the gradients in new tensors, as after a backward pass."""
        self._chosen.zero_grad(set_to_none=True)
        for p, g in zip(self._params, self._grads, strict=True):
            p.grad = torch.clone(g)

    def run(self) -> None:
        """Make a step."""
        o, params = self._optimizer, self._params
        if o.grad_scale is not None:
            for p, scaled in zip(params, self._grads, strict=True):
                torch.mul(scaled, 1 / o.grad_scale, out=p.grad)
        if o.skip_nonfinite:
            finite = torch.stack([torch.isfinite(p.grad).all() for p in params])
            if not bool(finite.all()):
                return
        if o.clip_value is not None:
            torch.nn.utils.clip_grad_value_(params, o.clip_value)
        if o.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, o.max_norm)
        if o.max_norm_each is not None:
            for p in params:
                torch.nn.utils.clip_grad_norm_([p], o.max_norm_each)
        self._chosen.step()
        with torch.no_grad():
            if self._ema is not None and o.ema_momentum is not None:
                weight = 1 - o.ema_momentum if self._averaged else 1.0
                torch._foreach_lerp_(self._ema, params, weight)
                self._averaged = True
            if self._copies is not None:
                torch._foreach_copy_(self._copies, params)

    def results(self) -> dict[str, list[Any] | None]:
        """Return everything that was written."""
        return {
            "params": self._params,
            "ema": self._ema,
            "low_precision_copies": self._copies,
        }


class OwnSteps(Steps):
    """The same with `fusednn.torch.optim`, whose step scales, clips by norm and averages."""

    package = fusednn.torch.optim

    def __init__(self, optimizer: Optimizer, case: Case) -> None:
        how = {"max_norm": optimizer.max_norm, "ema": optimizer.ema_momentum}
        super().__init__(replace(optimizer, max_norm=None, ema_momentum=None), case, how)
        if optimizer.grad_scale is not None:
            self._optimizer = replace(self._optimizer, grad_scale=None)
            self._chosen.grad_scale = optimizer.grad_scale
            self.take_gradients()

    def take_gradients(self) -> None:
        """Have the gradients as they are in the inputs."""
        for p, g in zip(self._params, self._grads, strict=True):
            if p.grad is not g:
                p.grad.copy_(g)

    def results(self) -> dict[str, list[Any] | None]:
        """Return everything that was written."""
        averaged = self._chosen.ema is not None
        ema = [self._chosen.state[p]["ema"] for p in self._params] if averaged else None
        return super().results() | {"ema": ema}


def _refuse_if_idle(optimizer: Optimizer, case: Case) -> None:
    """Refuse a fused optimizer that leaves parameters as they are: 2.13's SGD in bfloat16."""
    dtype = getattr(torch, case.dtype)
    probe = torch.ones(64, dtype=dtype, requires_grad=True)
    probe.grad = torch.ones(64, dtype=dtype)
    make_optimizer(optimizer, [probe], 0.5, {"fused": True}).step()
    if bool((probe == 1).all()):
        raise UnavailableError(
            f"torch's fused {optimizer.kind} leaves {case.dtype} parameters unchanged"
        )


def _name_of(optimizer: Optimizer) -> str:
    if optimizer.decoupled:
        return "AdamW"
    return _NAMES.get(optimizer.kind, optimizer.kind.capitalize())


def make_optimizer(
    optimizer: Optimizer, params: Any, lr: float, how: dict[str, Any], package: Any = torch.optim
) -> Any:
    """Return torch's optimizer of this kind, or that of another package with its interface.

    Raises
    ------
    UnavailableError
        If the package has no such optimizer, or torch no fused form of it.
    """
    options = dict(optimizer.hyperparameters)
    if "rho" in options:
        options["alpha"] = options.pop("rho")
    if optimizer.weight_decay:
        options["weight_decay"] = optimizer.weight_decay
    name = _name_of(optimizer)
    if not hasattr(package, name):
        raise UnavailableError(f"{package.__name__} has no {name}")
    try:
        return getattr(package, name)(params, lr=lr, **options, **how)
    except (TypeError, RuntimeError) as error:
        if not how.get("fused"):
            raise
        raise UnavailableError(f"torch has no fused {name}") from error
