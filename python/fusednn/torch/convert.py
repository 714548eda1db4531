"""Makes one module of each BatchNorm followed by (leaky) ReLU in a model, and two again.

The fused module stands where the BatchNorm stood and holds the same parameter and buffer objects,
so that optimizers, `state_dict` and names stay what they were; where the activation stood there is
a module that passes its input on. Activations that are functions, or modules called more than once,
stay, and `activated` tells them where they have nothing to do. `pairs` says which.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fusednn.torch.activated import MARKING
from fusednn.torch.modules import BatchNormLeakyReLU
from fusednn.torch.pairs import FUSED, find_pairs, require_module
from fusednn.torch.sync import SyncBatchNormLeakyReLU


class FusedActivation(nn.Identity):
    """Passes its input on: the module beside it, `batch_norm`, applies the activation."""

    def __init__(self, batch_norm: str, activation: nn.Module) -> None:
        super().__init__()
        self.batch_norm = batch_norm
        self._activation = (activation,)  # in a tuple it is no submodule

    def extra_repr(self) -> str:
        """Return what is applied elsewhere."""
        return f"{self._activation[0]} is part of {self.batch_norm!r}"


def convert(module: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Make one module of every BatchNorm followed by ReLU or leaky ReLU, and return `module`.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place. Its training mode, devices, parameters, their gradients and names stay.
    inplace : bool, default False
        Whether the fused modules overwrite their inputs, where these are results of convolutions
        or linear layers that nobody else has, and the slope is positive (ReLU cannot be undone).
        Synchronised ones are never in place.

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
    What is not certain stays as it is: :func:`find_pairs` says what, and why. A pair is certain
    where every `forward` in which the BatchNorm or the activation is called shows it, in training
    and in evaluation, with optional arguments and without; a `Sequential` counts where it is called
    as a whole. Not seen are other methods that call the modules, code outside of the model, and
    what a `forward` does when an attribute, a global or a random number is another than now:
    convert what does that after it has been set, or not at all. Hooks on fused modules would see
    other values than before: pairs with hooks stay.

    An activation that is a function (`relu`, `leaky_relu` and their in-place forms, of
    `torch.nn.functional`, `torch` or a tensor) or a module that several BatchNorms share stays in
    the model. The fused module's result is of a type by which the activation knows, in eager
    programs, that it has nothing to do; any other use of it raises RuntimeError. In programs that
    are traced (`torch.compile`, `torch.export`, `torch.func`) the fused module is the BatchNorm
    alone, and the activation computes.
    """
    for pair in find_pairs(module):
        if pair.reason is None and pair.activation is not None:
            norm = module.get_submodule(pair.batch_norm)
            overwrites = inplace and pair.may_overwrite and type(norm) is not nn.SyncBatchNorm
            kind: Any = (MARKING if pair.activation_stays else FUSED)[type(norm)]
            _replace(module, pair.batch_norm, _like(norm, kind, pair.negative_slope, overwrites))
            if not pair.activation_stays:
                activation = module.get_submodule(pair.activation)
                name = pair.batch_norm.rpartition(".")[2]
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
    require_module(module)
    for name, stand_in in list(module.named_modules()):
        if type(stand_in) in MARKING.values():
            plain = next(p for p, f in MARKING.items() if type(stand_in) is f)
            _replace(module, name, _like(stand_in, plain))
        if not isinstance(stand_in, FusedActivation):
            continue
        prefix = name[: len(name) - len(name.rpartition(".")[2])]
        norm_name = prefix + stand_in.batch_norm
        fused = module.get_submodule(norm_name)
        if isinstance(fused, BatchNormLeakyReLU):
            plain = next(p for p, f in FUSED.items() if isinstance(fused, f))
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
        Changed in place. Parameters and buffers stay the same objects. Modules with
        ``inplace=True`` are so no longer: statistics of a group are never computed in place.
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
    require_module(module)
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if isinstance(child, BatchNormLeakyReLU) and not isinstance(child, SyncBatchNormLeakyReLU):
            marks = type(child) in MARKING.values()
            kind: Any = MARKING[nn.SyncBatchNorm] if marks else SyncBatchNormLeakyReLU
            new = _like(child, kind, child.negative_slope)
            new.process_group = process_group
            if not name:
                return new
            _replace(module, name, new)
    return module


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
