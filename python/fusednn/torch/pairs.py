"""The pairs of BatchNorm and (leaky) ReLU in a model that can be made one module each."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fusednn.torch.modules import (
    BatchNormLeakyReLU,
    BatchNormLeakyReLU1d,
    BatchNormLeakyReLU2d,
    BatchNormLeakyReLU3d,
)
from fusednn.torch.sync import SyncBatchNormLeakyReLU
from fusednn.torch.tracing import Call, Function, calls_in_model

FUSED = {
    nn.BatchNorm1d: BatchNormLeakyReLU1d,
    nn.BatchNorm2d: BatchNormLeakyReLU2d,
    nn.BatchNorm3d: BatchNormLeakyReLU3d,
    nn.SyncBatchNorm: SyncBatchNormLeakyReLU,
}
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SEVERAL_PLACES = "it stands in several places of the model"
#: Their results are new, and their backward passes do not need them.
_PRODUCERS = (
    *(nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


@dataclass(frozen=True)
class Pair:
    """A BatchNorm and what `fusednn.torch.convert` makes of it."""

    batch_norm: str
    """The qualified name of the BatchNorm."""
    activation: str | None
    """That of the activation after it, if one was found; of a function its name, as ``relu()``."""
    reason: str | None
    """Why the two stay as they are; None where they are made one."""
    may_overwrite: bool = False
    """Whether the two as one may overwrite their input: the result of a convolution or a linear
    layer that nobody else has, and a positive slope."""
    negative_slope: float = 0.0
    """That of the activation."""
    activation_stays: bool = False
    """Whether the activation cannot be taken out of the model: a function in a `forward`, or a
    module that is called more than once. It passes on what the BatchNorm has activated for it."""


def find_pairs(module: nn.Module) -> list[Pair]:
    """Return for every BatchNorm of `module` what `fusednn.torch.convert` would do.

    Parameters
    ----------
    module : torch.nn.Module
        Not changed. The `forward` of modules in which there are BatchNorms is called, on copies
        that share their tensors, with what stands for tensors in `torch.fx`; what it changes
        outside of modules and of lists and dicts in them is changed.

    Returns
    -------
    list of Pair
        In the order of `named_modules`.

    Raises
    ------
    TypeError
        `module` is no module, or a compiled or scripted one.
    """
    require_module(module)
    uses = Counter(id(child) for parent in module.modules() for child in parent._modules.values())
    calls = calls_in_model(module, tuple(FUSED))
    found = []
    for parent_name, parent in module.named_modules():
        prefix = f"{parent_name}." if parent_name else ""
        siblings = {id(child): name for name, child in parent.named_children()}
        for name, norm in parent.named_children():
            if not isinstance(norm, tuple(FUSED)) or isinstance(norm, BatchNormLeakyReLU):
                continue
            known = calls.of.get(id(norm), [])
            activation = known[0].after if len(known) == 1 else None
            follower, slope, stays = None, 0.0, False
            if not known:
                reason: str | None = calls.why_none(parent_name)
            elif uses[id(norm)] > 1:
                reason = _SEVERAL_PLACES
            elif len(known) > 1:
                reason = f"it is called {len(known)} times"
            elif activation is None:
                reason = known[0].reason
            elif isinstance(activation, Function):
                follower, slope, stays = activation.name, activation.negative_slope, True
                reason = _obstacle(norm, slope)
            elif not isinstance(activation, _ACTIVATIONS):
                reason = "no activation follows"
            elif id(activation) not in siblings:
                reason = "the activation after it has another parent"
            else:
                follower, slope = prefix + siblings[id(activation)], slope_of(activation)
                stays = len(calls.of[id(activation)]) > 1 or uses[id(activation)] > 1
                reason = _obstacle(norm, slope, activation)
            overwrites = reason is None and _may_overwrite(known[0], slope)
            found.append(Pair(prefix + name, follower, reason, overwrites, slope, stays))
    return found


def require_module(module: Any) -> None:
    """Refuse what is no module, or one whose modules are not what runs."""
    compiled = isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod")
    if not isinstance(module, nn.Module) or compiled:
        raise TypeError(
            "`module` must be a torch.nn.Module that is not compiled yet. "
            f"Received: type={type(module).__name__}"
        )


def slope_of(activation: nn.Module) -> float:
    """Return the negative slope of a ReLU or leaky ReLU."""
    return float(getattr(activation, "negative_slope", 0.0))


def _obstacle(norm: nn.Module, slope: float, activation: nn.Module | None = None) -> str | None:
    """Return why a pair that was found cannot be one module."""
    modules = [norm] if activation is None else [norm, activation]
    for module in modules:
        if type(module) not in FUSED and type(module) not in _ACTIVATIONS:
            return f"{type(module).__name__} is not exactly a module of torch.nn"
    if any(getattr(m, hooks) for m in modules for hooks in _HOOKS):
        return "one of the two has hooks"
    if any("forward" in vars(m) for m in modules):
        return "the forward of one of the two is not that of its class"
    if not math.isfinite(slope):
        return f"negative_slope is not finite: {slope}"
    return None


def _may_overwrite(call: Call, slope: float) -> bool:
    if slope <= 0 or type(call.before) not in _PRODUCERS:
        return False
    return not any(getattr(call.before, hooks) for hooks in _HOOKS)
