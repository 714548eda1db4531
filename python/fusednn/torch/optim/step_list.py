"""What one call of a kernel updates: parameters of one group with their gradients and states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from fusednn.torch.optim.counts import is_on_device
from fusednn.torch.optim.tensors import is_distributed, number


@dataclass
class StepList:
    """Plain tensors on one device, all float64 or none, as the kernel takes them in one call.

    Attributes
    ----------
    owners
        The parameters as the optimizer's user knows them; ``params`` is their memory.
    states
        By the kernel's names.
    steps
        The states named ``step``; empty where the optimizer does not count. On a GPU they are one.
    averages
        The moving averages; empty where there are none.
    first
        For each parameter whether this is its first update.
    fresh_averages
        For each average whether it holds nothing yet.
    """

    owners: list[torch.Tensor] = field(default_factory=list)
    params: list[torch.Tensor] = field(default_factory=list)
    grads: list[torch.Tensor] = field(default_factory=list)
    states: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    steps: list[torch.Tensor] = field(default_factory=list)
    averages: list[torch.Tensor] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    fresh_averages: list[bool] = field(default_factory=list)

    @property
    def counts_on_device(self) -> bool:
        """Whether the kernel advances the count."""
        return bool(self.steps) and is_on_device(self.steps[0])

    @property
    def averages_begin(self) -> bool:
        """Whether the kernel must leave the averages alone: it would not start them all."""
        return any(self.fresh_averages) or (bool(self.averages) and any(self.first))

    @property
    def is_all_in_kernel(self) -> bool:
        """Whether nothing of the step is left to Python: not the count, and no first time."""
        counted = self.counts_on_device or not (self.steps or any(self.first))
        return counted and not self.averages_begin

    def call(self, kind: str, how: dict[str, Any], ema: float | None) -> dict[str, Any]:
        """Return the arguments of ``ops.optimizer_step``; `how` has what else is no list."""
        call = {
            "kind": kind,
            "params": self.params,
            "grads": self.grads,
            "states": self.states,
            "step": self.steps[0] if self.counts_on_device else self._numbers(),
        } | how
        if self.averages and not self.averages_begin:
            call |= {"ema": self.averages, "ema_momentum": ema}
        call["hyperparameters"] = {
            name: self._scalar(value) for name, value in how["hyperparameters"].items()
        }
        # A GradScaler's are on the device of the loss, which need not be that of the parameters.
        for name in ("grad_scale", "found_inf"):
            if how.get(name) is not None:
                call[name] = self._scalar(how[name])
        return call

    def finish(self, ema: float | None) -> None:
        """Do what the kernel has left: count, and start averages."""
        if ema is not None and self.averages_begin:
            for average, param, fresh in zip(
                self.averages, self.params, self.fresh_averages, strict=True
            ):
                if fresh:
                    average.copy_(param)
                else:
                    average.lerp_(param.to(average.dtype), 1.0 - ema)
        if self.steps and not self.counts_on_device:
            torch._foreach_add_(self.steps, 1)

    def written(self) -> list[torch.Tensor]:
        """Return the parameters that a step changes, each under every name autograd knows."""
        # A DTensor and its shard count their versions apart.
        pairs = zip(self.owners, self.params, strict=True)
        return self.owners + [param for owner, param in pairs if is_distributed(owner)]

    def _numbers(self) -> list[int]:
        # Where nobody counts, the formula only asks for the first.
        if not self.steps:
            return [1 if first else 2 for first in self.first]
        return [int(step.item()) + 1 for step in self.steps]

    def _scalar(self, value: Any) -> Any:
        """Return a number, or where it and the parameters are on a GPU the tensor that holds it."""
        if not isinstance(value, torch.Tensor):
            return value
        device = self.params[0].device
        return (
            value.detach().to(device, torch.float32)
            if value.is_cuda and device.type == "cuda"
            else number(value)
        )
