"""Counts of steps: the states named ``step``, on the CPU or on the parameters' GPU.

On a GPU a kernel reads and advances one count for all tensors of its call, without anybody waiting
for it. PyTorch has a tensor for each parameter: here those that count alike share one, as long as
they step together, and what is saved has one each again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

State = dict[str, Any]


def is_on_device(count: torch.Tensor) -> bool:
    """Return whether reading this count would wait for a GPU."""
    return bool(count.is_cuda)


def initial_count(group: dict[str, Any], param: torch.Tensor) -> torch.Tensor:
    """Return a count of 0 where and how PyTorch keeps it."""
    on_device = group.get("capturable") or group.get("fused")
    wide = torch.get_default_dtype() == torch.float64 and not on_device
    dtype = torch.float64 if wide else torch.float32
    return torch.zeros((), dtype=dtype, device=param.device if on_device else "cpu")


class SharedCounts:
    """Who counts with whom during the making of one step's lists."""

    def __init__(self) -> None:
        self._lists: dict[int, Any] = {}
        self._parted: dict[tuple[int, Any], torch.Tensor] = {}

    def take(self, state: State, step_list: Any) -> torch.Tensor:
        """Return the count in `state` for a list, apart from that of every other list."""
        count: torch.Tensor = state["step"]
        if is_on_device(count) and self._lists.setdefault(count.data_ptr(), step_list) != step_list:
            count = self._part(state, step_list)
        return count

    def leave(self, states: Iterable[State]) -> None:
        """Give counts of their own to states that take no part in this step."""
        for state in states:
            count = state.get("step")
            if count is not None and is_on_device(count) and count.data_ptr() in self._lists:
                self._part(state, None)

    def _part(self, state: State, step_list: Any) -> torch.Tensor:
        place = (state["step"].data_ptr(), step_list)
        if place not in self._parted:
            self._parted[place] = state["step"].clone()
            self._lists[self._parted[place].data_ptr()] = step_list
        state["step"] = self._parted[place]
        return self._parted[place]


def share_equal_counts(states: Iterable[State]) -> None:
    """Let states whose counts are on one GPU and equal share one; the values are waited for."""
    counted = [s for s in states if "step" in s and is_on_device(s["step"])]
    shared: dict[tuple[torch.device, float], torch.Tensor] = {}
    for state in counted:
        count = state["step"]
        state["step"] = shared.setdefault((count.device, float(count.item())), count)


def separate_counts(states: dict[Any, State]) -> defaultdict[Any, State]:
    """Return states to save: with a count each, as PyTorch's."""
    separate: defaultdict[Any, State] = defaultdict(dict, states)
    for key, state in states.items():
        count = state.get("step") if isinstance(state, dict) else None
        if isinstance(count, torch.Tensor) and is_on_device(count):
            separate[key] = {**state, "step": count.clone()}
    return separate
