"""Finds BatchNorm followed by (leaky) ReLU in a model, and makes one module of each pair.

A pair is two modules with one parent. In a `torch.nn.Sequential` they stand side by side; elsewhere
the parent's `forward` is traced with `torch.fx`, and the activation must take what the BatchNorm
returns, which nobody else uses. The fused module stands where the BatchNorm stood and holds the
same parameter and buffer objects, so that optimizers, `state_dict` and names stay what they were;
where the activation stood there is a module that passes its input on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import fx, nn

from fusednn.torch.modules import (
    BatchNormLeakyReLU,
    BatchNormLeakyReLU1d,
    BatchNormLeakyReLU2d,
    BatchNormLeakyReLU3d,
)
from fusednn.torch.sync import SyncBatchNormLeakyReLU

_FUSED = {
    nn.BatchNorm1d: BatchNormLeakyReLU1d,
    nn.BatchNorm2d: BatchNormLeakyReLU2d,
    nn.BatchNorm3d: BatchNormLeakyReLU3d,
    nn.SyncBatchNorm: SyncBatchNormLeakyReLU,
}
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class FusedActivation(nn.Identity):
    """Passes its input on: the module beside it, `batch_norm`, applies the activation."""

    def __init__(self, batch_norm: str, activation: nn.Module) -> None:
        super().__init__()
        self.batch_norm = batch_norm
        self._activation = (activation,)  # in a tuple it is no submodule

    def extra_repr(self) -> str:
        """Return what is applied elsewhere."""
        return f"{self._activation[0]} is part of {self.batch_norm!r}"


@dataclass(frozen=True)
class Pair:
    """A BatchNorm and what :func:`convert` makes of it."""

    batch_norm: str
    """The qualified name of the BatchNorm."""
    activation: str | None
    """That of the activation after it, if one was found."""
    reason: str | None
    """Why the two stay as they are; None where they are made one."""


def find_pairs(module: nn.Module) -> list[Pair]:
    """Return for every BatchNorm of `module` what :func:`convert` would do, and change nothing.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    list of Pair
        In the order of `named_modules`.
    """
    _require_module(module)
    uses = Counter(id(child) for parent in module.modules() for child in parent._modules.values())
    found = []
    for parent_name, parent in module.named_modules():
        norms = {n: c for n, c in parent.named_children() if isinstance(c, tuple(_FUSED))}
        norms = {n: c for n, c in norms.items() if not isinstance(c, BatchNormLeakyReLU)}
        if norms:
            after = _activations_after(parent, list(norms))
            prefix = f"{parent_name}." if parent_name else ""
            for name, norm in norms.items():
                follower, reason = after[name]
                activation = None if follower is None else parent.get_submodule(follower)
                reason = reason or _obstacle(norm, activation, uses)
                found.append(Pair(prefix + name, follower and prefix + follower, reason))
    return found


def convert(module: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Make one module of every BatchNorm followed by ReLU or leaky ReLU, and return `module`.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place. Its training mode, devices, parameters, their gradients and names stay.
    inplace : bool, default False
        Whether the fused modules overwrite their inputs, where the slope is positive (ReLU cannot
        be undone, and synchronised ones are never in place).

    Returns
    -------
    torch.nn.Module
        `module`.

    Raises
    ------
    TypeError
        `module` is no module, or a compiled or scripted one.

    Notes
    -----
    What is not certain stays as it is: :func:`find_pairs` says what, and why. The `forward` of
    parents that are no `Sequential` is called once with `torch.fx` proxies instead of tensors.
    Hooks on fused modules would see other values than before: pairs with hooks stay.
    """
    for pair in find_pairs(module):
        if pair.reason is None and pair.activation is not None:
            norm = module.get_submodule(pair.batch_norm)
            activation = module.get_submodule(pair.activation)
            slope = getattr(activation, "negative_slope", 0.0)
            kind = _FUSED[type(norm)]
            may_overwrite = slope > 0 and kind is not SyncBatchNormLeakyReLU
            fused = _like(norm, kind, slope, inplace and may_overwrite)
            name = pair.batch_norm.rpartition(".")[2]
            _replace(module, pair.batch_norm, fused)
            _replace(module, pair.activation, FusedActivation(name, activation))
    return module


def revert(module: nn.Module) -> nn.Module:
    """Undo :func:`convert`: the BatchNorms and activations of PyTorch stand where they stood.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place. Parameters and buffers stay the same objects. Fused modules that
        `convert` did not make stay.

    Returns
    -------
    torch.nn.Module
        `module`.

    Raises
    ------
    TypeError
        `module` is no module.
    """
    _require_module(module)
    for name, stand_in in list(module.named_modules()):
        if not isinstance(stand_in, FusedActivation):
            continue
        prefix = name[: len(name) - len(name.rpartition(".")[2])]
        norm_name = prefix + stand_in.batch_norm
        fused = module.get_submodule(norm_name)
        if isinstance(fused, BatchNormLeakyReLU):
            plain = next(p for p, f in _FUSED.items() if isinstance(fused, f))
            _replace(module, norm_name, _like(fused, plain))
            _replace(module, name, stand_in._activation[0].train(stand_in.training))
    return module


def convert_sync_batchnorm(module: nn.Module, process_group: Any = None) -> nn.Module:
    """Make every BatchNorm with leaky ReLU of `module` a synchronised one, and return `module`.

    `torch.nn.SyncBatchNorm.convert_sync_batchnorm` would drop the activations. BatchNorms that have
    none in them are left to it: call it first, then `convert`, or this one after `convert`.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place. Parameters and buffers stay the same objects.
    process_group : torch.distributed.ProcessGroup, optional
        The processes; by default all.

    Returns
    -------
    torch.nn.Module
        `module`, or where that is itself such a BatchNorm, what stands for it.

    Raises
    ------
    TypeError
        `module` is no module.
    """
    _require_module(module)
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if isinstance(child, BatchNormLeakyReLU) and not isinstance(child, SyncBatchNormLeakyReLU):
            new = _like(child, SyncBatchNormLeakyReLU, child.negative_slope)
            new.process_group = process_group
            if not name:
                return new
            _replace(module, name, new)
    return module


def _require_module(module: Any) -> None:
    compiled = isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod")
    if not isinstance(module, nn.Module) or compiled:
        raise TypeError(
            "`module` must be a torch.nn.Module that is not compiled yet. "
            f"Received: type={type(module).__name__}"
        )


def _like(norm: nn.Module, kind: Any, slope: float | None = None, inplace: bool = False) -> Any:
    """Return a `kind` with the very parameters, buffers and settings of `norm`."""
    new = kind.__new__(kind)
    new.__dict__ = dict(norm.__dict__)
    for name in ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules"):
        new.__dict__[name] = norm.__dict__[name].copy()
    if slope is None:
        del new.__dict__["negative_slope"], new.__dict__["inplace"]
    else:
        new.negative_slope, new.inplace = slope, inplace
    return new


def _replace(root: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    root.get_submodule(parent)._modules[child] = new


def _obstacle(norm: nn.Module, activation: nn.Module | None, uses: Counter[int]) -> str | None:
    """Return why a pair that was found cannot be one module."""
    if activation is None:
        return "no activation follows"
    if type(norm) not in _FUSED or type(activation) not in _ACTIVATIONS:
        odd = norm if type(norm) not in _FUSED else activation
        return f"{type(odd).__name__} is not exactly a module of torch.nn"
    if uses[id(norm)] > 1 or uses[id(activation)] > 1:
        return "one of the two stands in several places of the model"
    if any(getattr(m, hooks) for m in (norm, activation) for hooks in _HOOKS):
        return "one of the two has hooks"
    return None


def _activations_after(
    parent: nn.Module, norms: list[str]
) -> dict[str, tuple[str | None, str | None]]:
    """Return for each BatchNorm the activation's name, if there is one, or why not."""
    if type(parent) is nn.Sequential:
        names = list(parent._modules)
        followers = dict(pairwise(names))
        return {
            n: (f if isinstance(parent._modules.get(f), _ACTIVATIONS) else None, None)
            for n in norms
            for f in [followers.get(n)]
        }
    if not any(isinstance(child, _ACTIVATIONS) for child in parent.children()):
        return dict.fromkeys(norms, (None, "no activation module beside it"))
    try:
        graph = _Tracer().trace(parent)
    except Exception as error:
        reason = f"forward cannot be traced: {type(error).__name__}: {error}".split("\n")[0]
        return dict.fromkeys(norms, (None, reason))
    return {n: _follower(graph, parent, n) for n in norms}


class _Tracer(fx.Tracer):
    """Traces one module's `forward`; all modules in it are leaves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _follower(graph: fx.Graph, parent: nn.Module, norm: str) -> tuple[str | None, str | None]:
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == norm]
    if len(calls) != 1:
        return None, f"called {len(calls)} times in forward"
    users = list(calls[0].users)
    called = [u for u in users if u.op == "call_module"]
    if len(users) != 1 or not called:
        return None, "its result is used by something else than one activation module"
    name = called[0].target
    if not isinstance(parent.get_submodule(name), _ACTIVATIONS):
        return None, "no activation follows"
    times = sum(n.op == "call_module" and n.target == name for n in graph.nodes)
    return name, None if times == 1 else f"{name} is called {times} times in forward"
