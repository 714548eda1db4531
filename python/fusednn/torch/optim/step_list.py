"""What one call of a kernel updates: parameters of one group with their gradients and states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class StepList:
    """Plain tensors on one device, all float64 or none, as the kernel takes them in one call.

    Attributes
    ----------
    owners
        The parameters as the optimizer's user knows them; ``params`` is their memory.
    names
        Of the owners, for messages.
    states
        By the kernel's names.
    steps
        The states named ``step``; empty where the optimizer does not count.
    averages
        The moving averages; empty where there are none.
    first
        For each parameter whether this is its first update.
    fresh_averages
        For each average whether it holds nothing yet.
    """

    owners: list[torch.Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    params: list[torch.Tensor] = field(default_factory=list)
    grads: list[torch.Tensor] = field(default_factory=list)
    states: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    steps: list[torch.Tensor] = field(default_factory=list)
    averages: list[torch.Tensor] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    fresh_averages: list[bool] = field(default_factory=list)

    @property
    def averages_begin(self) -> bool:
        """Whether the kernel must leave the averages alone: it would not start them all."""
        return any(self.fresh_averages) or (bool(self.averages) and any(self.first))

    def call(self, kind: str) -> dict[str, Any]:
        """Return the arguments of ``ops.optimizer_step`` that are tensors, and their counts."""
        return {
            "kind": kind,
            "params": self.params,
            "grads": self.grads,
            "states": self.states,
            "step": self.numbers(),
            "ema": self.averages if self.averages and not self.averages_begin else None,
        }

    def numbers(self) -> list[int]:
        """Return the number of this update for each parameter, from 1.

        One that is not counted is 1 or, if it is not the first, 2: no formula asks for more.
        """
        if not self.steps:
            return [1 if first else 2 for first in self.first]
        return [int(step.item()) + 1 for step in self.steps]

    def average(self, momentum: float) -> None:
        """Update the averages after a step that did not, because some start with it."""
        for average, param, fresh in zip(
            self.averages, self.params, self.fresh_averages, strict=True
        ):
            if fresh:
                average.copy_(param)
            else:
                average.lerp_(param.to(average.dtype), 1.0 - momentum)

    def written(self) -> Iterator[torch.Tensor]:
        """Yield the parameters that a step changes, each under every name autograd knows."""
        yield from self.owners
        # A DTensor and its shard count their versions apart.
        for owner, param in zip(self.owners, self.params, strict=True):
            if hasattr(owner, "_local_tensor"):
                yield param
