"""The long way of a step: states that are missing, what is not plain or on a GPU, and messages."""

from __future__ import annotations

from math import hypot, isfinite
from typing import TYPE_CHECKING, Any

import torch

from fusednn import ops
from fusednn.torch.optim.counts import SharedCounts, initial_count, is_on_device
from fusednn.torch.optim.step_list import StepList
from fusednn.torch.optim.tensors import (
    gradient_of,
    is_distributed,
    laid_out_as,
    memory_of,
    names_of,
    number,
)

if TYPE_CHECKING:
    from fusednn.torch.optim.optimizer import FusedStep, Group

Listed = list[tuple[StepList, dict[str, Any]]]


class NewLists:
    """The lists of one step of an optimizer, and how each is stepped."""

    def __init__(self, optimizer: FusedStep) -> None:
        self._optimizer = optimizer
        self._made: list[tuple[Any, Any]] = []
        self._counts = SharedCounts()
        self._new_counts: dict[Any, torch.Tensor] = {}
        self.all: Listed = []

    def collect(self) -> None:
        """Read all groups, and make the states that are missing."""
        optimizer = self._optimizer
        for index, group in enumerate(optimizer.param_groups):
            optimizer._check(index)
            how = {
                "hyperparameters": optimizer._hyperparameters(group),
                "weight_decay": number(group["weight_decay"]),
                "decoupled_weight_decay": bool(group.get("decoupled_weight_decay", False)),
                "maximize": bool(group["maximize"]),
            }
            self.all += [(step_list, how) for step_list in self._lists(index, group)]

    def take_back(self) -> None:
        """Remove what states were made."""
        for place, name in reversed(self._made):
            del place[name]

    def step(self, scale: Any, found_inf: torch.Tensor | None) -> list[torch.Tensor]:
        """Step all lists or none, and return the tensors that were changed."""
        whole = all(one.is_all_in_kernel for one, _ in self.all)
        on_gpu = [one.params[0].is_cuda for one, _ in self.all]
        if not whole and is_capturing(any(on_gpu)):
            raise RuntimeError(
                "`capturable` or `fused` must be True, and a step be made, before one is captured "
                "into a CUDA graph: what Python counts is not in it. Received: a capturing stream"
            )
        skip = {}
        if found_inf is not None:
            if whole and all(on_gpu):
                skip = {"found_inf": found_inf}
            elif number(found_inf) != 0.0:
                self.take_back()
                return []
        clip = self._clip(scale)
        kind = self._optimizer.kind
        ema = self._optimizer.ema
        calls = [one.call(kind, how | clip | skip, ema) for one, how in self.all]
        for call in calls if len(calls) > 1 else ():
            ops.optimizer_step(**call, check_only=True)
        for call, (one, _) in zip(calls, self.all, strict=True):
            ops.optimizer_step(**call)
            one.finish(ema)
        return [tensor for one, _ in self.all for tensor in one.written()]

    def _lists(self, index: int, group: Group) -> list[StepList]:
        names = self._optimizer._states(group)
        lists: dict[Any, StepList] = {}
        idle = []
        for name, owner in zip(names_of(index, group), group["params"], strict=True):
            if owner.grad is None:
                idle.append(self._optimizer.state.get(owner, {}))
                continue
            if group.get("capturable") and owner.device.type == "cpu":
                raise RuntimeError(
                    f"`capturable` must be False for parameters on the CPU, as in PyTorch. "
                    f"Received: capturable=True, `{name}` on {owner.device}"
                )
            grad = gradient_of(name, owner)
            param = memory_of(name, owner)
            key: Any = (index, param.device, param.dtype == torch.float64)
            count = self._count(group, owner, key)
            if count is not None and is_on_device(count):
                key = (*key, count.data_ptr())
            one = lists.setdefault(key, StepList())
            one.owners.append(owner)
            one.params.append(param)
            one.grads.append(grad)
            one.steps += [] if count is None else [count]
            self._add_states(one, owner, names)
        self._counts.leave(idle)
        return list(lists.values())

    def _count(self, group: Group, owner: torch.Tensor, key: Any) -> torch.Tensor | None:
        if not self._optimizer.counts_steps:
            return None
        state = self._state_of(owner)
        if "step" not in state:
            count = initial_count(group, owner)
            if is_on_device(count):
                count = self._new_counts.setdefault(key, count)
            self._make(state, "step", count)
        return self._counts.take(state, key)

    def _add_states(self, one: StepList, owner: torch.Tensor, names: dict[str, str]) -> None:
        state = self._state_of(owner) if names or self._optimizer.ema is not None else {}
        one.first.append(any(state.get(name) is None for name in names.values()))
        for ours, theirs in names.items():
            if state.get(theirs) is None:
                self._make(state, theirs, self._optimizer._initial_state(theirs, owner))
            one.states.setdefault(ours, []).append(_state_memory(state, theirs, owner))
        if self._optimizer.ema is not None:
            one.fresh_averages.append("ema" not in state)
            if "ema" not in state:
                self._make(state, "ema", torch.zeros_like(owner, dtype=average_dtype(owner)))
            one.averages.append(_state_memory(state, "ema", owner))

    def _state_of(self, owner: torch.Tensor) -> dict[str, Any]:
        states = self._optimizer.state
        if owner not in states:
            self._make(states, owner, {})
        state: dict[str, Any] = states[owner]
        return state

    def _make(self, place: Any, name: Any, value: Any) -> None:
        place[name] = value
        self._made.append((place, name))

    def _clip(self, scale: Any) -> dict[str, Any]:
        """Return the options that divide gradients by `scale` and clip them to `max_norm`."""
        max_norm = self._optimizer.max_norm
        if max_norm is None or not self.all:
            return {"grad_scale": scale}
        owners = [owner for one, _ in self.all for owner in one.owners]
        distributed = any(map(is_distributed, owners))
        if len(self.all) == 1 and not distributed:
            return {"grad_scale": scale, "max_norm": max_norm}
        scale = 1.0 if scale is None else scale
        norm: Any
        if distributed or any(one.params[0].is_cuda for one, _ in self.all):
            norm = torch.nn.utils.get_total_norm([owner.grad for owner in owners])
            norm = norm.full_tensor() if is_distributed(norm) else norm
        else:
            norm = hypot(*(ops.global_norm(one.grads) for one, _ in self.all))
        if isinstance(norm, torch.Tensor) and norm.is_cuda:  # nobody waits for it
            if isinstance(scale, torch.Tensor) and scale.is_cuda:
                scale = scale.to(norm.device)
            factor = (max_norm / (norm / scale + 1e-6)).clamp(max=1.0)
            return {"grad_scale": scale / factor}
        norm, scale = number(norm), number(scale)
        limit = max_norm / (norm / scale + 1e-6)
        if isfinite(norm):
            return {"grad_scale": scale / min(limit, 1.0)}
        # As torch.nn.utils.clip_grad_norm_: NaN everywhere, or beside infinities only zeros.
        for one, _ in self.all:
            one.grads = torch._foreach_mul(one.grads, limit)
        return {"grad_scale": scale}


def is_capturing(on_gpu: bool) -> bool:
    """Return whether what is done now goes into a CUDA graph."""
    return on_gpu and bool(torch.cuda.is_current_stream_capturing())


def average_dtype(param: torch.Tensor) -> torch.dtype:
    """Return the type of a parameter's moving average."""
    return torch.float64 if param.dtype == torch.float64 else torch.float32


def _state_memory(state: dict[str, Any], name: str, owner: torch.Tensor) -> torch.Tensor:
    """Return a state's memory; one that was loaded from another layout moves to the parameter's."""
    if not is_distributed(owner):
        state[name] = laid_out_as(owner, state[name])
    return memory_of(name, state[name])
