"""Who calls which module of a model, and where the results go, as far as tracing shows.

A `torch.nn.Sequential` calls its modules in order, if it is called itself rather than iterated or
sliced. Every other `forward` is traced with `torch.fx`: in training and in evaluation, with its
optional arguments and without. What differs between these is no basis for anything.
"""

from __future__ import annotations

import copy
import gc
import inspect
import warnings
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.optim.swa_utils import AveragedModel

from fusednn.torch.activated import slope_of_call

#: Their `forward` does no more than to call the module in them.
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_CONTAINERS = (tuple, list, dict, OrderedDict, defaultdict, set, deque)
#: For each module that is called, the names of what is before and after, or why nothing is after.
Records = dict[str, list[tuple[str | None, "str | Function | None", str | None]]]


class Function(NamedTuple):
    """A (leaky) ReLU that is called as a function."""

    name: str
    negative_slope: float


class Call(NamedTuple):
    """One call of a module in the `forward` of another."""

    before: nn.Module | None
    """The module whose result is the input, if nobody else has that."""
    after: nn.Module | Function | None
    """The module, or the activation as a function, that takes the result, if nobody else does."""
    reason: str | None
    """Why `after` is None."""


@dataclass
class Calls:
    """All calls that are known of the modules of a model."""

    of: dict[int, list[Call]] = field(default_factory=lambda: defaultdict(list))
    """By the `id` of the module that is called."""
    unknown: dict[str, str] = field(default_factory=dict)
    """By the name of a module, why it is not known what it calls."""

    def why_none(self, name: str) -> str:
        """Return why no call is known of what stands in the module `name`."""
        while True:
            if name in self.unknown:
                return self.unknown[name]
            if not name:
                return (
                    "it is not seen to be called: not in a forward, nor in a Sequential as a whole"
                )
            name = name.rpartition(".")[0]


def calls_in_model(root: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Calls:
    """Return who calls what in `root`, of modules in which there is one of `kinds`.

    `root` is taken to be called as a whole and, where it has no `forward`, what stands in it.
    """
    calls = Calls()
    whole = {id(m) for m in _entrances(root)}
    parents = [
        (name, module)
        for name, module in root.named_modules()
        if not isinstance(module, kinds) and any(isinstance(m, kinds) for m in module.modules())
    ]
    for name, module in parents:
        if _is_sequential(module) or not _has_forward(module):
            continue
        try:
            records = _records_of(module)
        except Exception as error:
            what = f"{type(error).__name__}: {error}".split("\n")[0]
            calls.unknown[name] = f"forward cannot be traced: {what}"
            continue
        for target, found in records.items():
            for before, after, reason in found:
                calls.of[id(module.get_submodule(target))].append(
                    Call(
                        _child(module, before),
                        after if isinstance(after, Function) else _child(module, after),
                        reason,
                    )
                )
    for _, module in parents:  # in which a Sequential stands before those in it
        if _is_sequential(module) and (id(module) in whole or id(module) in calls.of):
            children = list(module._modules.values())
            for before, child, after in zip(
                [None, *children], children, [*children[1:], None], strict=False
            ):
                reason = "no activation follows" if after is None else None
                calls.of[id(child)].append(Call(before, after, reason))
    return calls


def _entrances(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what is called from outside of the model."""
    yield module
    if not _has_forward(module):
        for child in module.children():
            yield from _entrances(child)


def _has_forward(module: nn.Module) -> bool:
    return type(module).forward is not nn.Module.forward and not isinstance(module, _WRAPPERS)


def _is_sequential(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward and "forward" not in vars(module)


def _child(module: nn.Module, name: str | None) -> nn.Module | None:
    return None if name is None else module.get_submodule(name)


class _Tracer(fx.Tracer):
    """Traces one module's `forward`; all modules in it are leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.proxies: list[tuple[fx.Node, weakref.ref[fx.Proxy]]] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        proxy = super().proxy(node)
        self.proxies.append((node, weakref.ref(proxy)))
        return proxy


def _records_of(module: nn.Module) -> Records:
    """Return for each module that `forward` calls the names of what is before and after."""
    if "forward" in vars(module):
        raise TypeError("it is not that of the class")
    ways = [
        _trace(module, training, given)
        for training in (True, False)
        for given in _argument_choices(module)
    ]
    records = ways[0]
    for target in set(chain.from_iterable(ways)):
        if any(way.get(target) != records.get(target) for way in ways):
            reason = "forward has other calls in evaluation or with other optional arguments"
            records[target] = [(None, None, reason)]
    return records


def _argument_choices(module: nn.Module) -> list[dict[str, Any]]:
    """Return what to give optional arguments: their defaults, something else, and each by itself.

    Something else is the other truth value, or what stands for any tensor: nothing in the dict.
    """
    parameters = inspect.signature(type(module).forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    other = {name: not value for name, value in defaults.items() if isinstance(value, bool)}
    if not defaults:
        return [{}]
    choices = [defaults, other]
    if len(defaults) > 1:
        for name in defaults:
            given = {n: v for n, v in defaults.items() if n != name}
            choices.append(given | {n: v for n, v in other.items() if n == name})
    return choices


def _trace(module: nn.Module, training: bool, given: dict[str, Any]) -> Records:
    clone, tracer = _clone(module), _Tracer()
    clone.training = training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fx cannot say in a graph that an argument has one value
        graph = tracer.trace(clone, given or None)
    # A result that outlives the call in which it was made can be read by anybody.
    if any(proxy() is not None for _, proxy in tracer.proxies):
        gc.collect()
    kept = {node for node, proxy in tracer.proxies if proxy() is not None}
    records: Records = {}
    for node in graph.nodes:
        if node.op == "call_module":
            records.setdefault(node.target, []).append((_before(node, kept), *_after(node, kept)))
    return records


def _before(node: fx.Node, kept: set[fx.Node]) -> str | None:
    sources = node.all_input_nodes
    if len(sources) != 1 or sources[0].op != "call_module" or sources[0] in kept:
        return None
    return str(sources[0].target) if len(sources[0].users) == 1 else None


def _after(node: fx.Node, kept: set[fx.Node]) -> tuple[str | Function | None, str | None]:
    users = list(node.users)
    if node in kept:
        return None, "its result is kept by forward"
    if len(users) == 1 and users[0].op == "call_module":
        return str(users[0].target), None
    function = _activation(users[0]) if len(users) == 1 else None
    if function is not None:
        return function, None
    return None, "its result is used by something else than one activation"


def _activation(node: fx.Node) -> Function | None:
    """Return the (leaky) ReLU that is called as a function or a method, if it is one."""
    called: Any = node.target
    if node.op == "call_method":
        called = getattr(torch.Tensor, called, None)
    slope = slope_of_call(called, node.args, dict(node.kwargs))
    if type(slope) not in (int, float):  # another function, or a slope that is known in a call
        return None
    return Function(f"{getattr(called, '__name__', node.target)}()", float(slope))


def _clone(module: nn.Module) -> nn.Module:
    """Return a copy for `forward` to write to: its modules, and the containers in them, are new."""
    copies: dict[int, Any] = {id(m): object.__new__(type(m)) for m in module.modules()}
    for m in module.modules():
        vars(copies[id(m)]).update((k, _copied(v, copies)) for k, v in vars(m).items())
    clone: nn.Module = copies[id(module)]
    return clone


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    """Return a copy of containers, the copy of a module of the model, and anything else itself."""
    if id(value) in copies or type(value) not in _CONTAINERS:
        return copies.get(id(value), value)
    if type(value) is tuple:
        return tuple(_copied(v, copies) for v in value)
    new = copies[id(value)] = copy.copy(value)
    if isinstance(new, dict):
        new.update((k, _copied(v, copies)) for k, v in value.items())
    elif isinstance(new, list):
        new[:] = [_copied(v, copies) for v in value]
    return new
