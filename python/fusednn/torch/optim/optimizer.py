"""What the five optimizers have in common: the step, and the options that PyTorch's lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from math import hypot, isfinite
from typing import Any, ClassVar

import torch
from torch.autograd.graph import increment_version
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from fusednn import _core, ops
from fusednn._arguments import check_optional_number
from fusednn.torch.optim.step_list import StepList
from fusednn.torch.optim.tensors import (
    DTYPES,
    gradient_of,
    is_distributed,
    laid_out_as,
    memory_of,
    number,
)

Group = dict[str, Any]


class FusedStep:
    """`step` of an optimizer of ``torch.optim`` as one kernel call for each parameter group.

    Comes before PyTorch's class in a class' bases. States, their names, ``state_dict``, hooks and
    everything else that is not `step` remain PyTorch's.
    """

    kind: ClassVar[str]
    counts_steps: ClassVar[bool] = True
    # GradScaler then hands over its scale, and whether gradients are finite, instead of dividing
    # all gradients in a pass of its own.
    _step_supports_amp_scaling = True

    param_groups: list[Group]
    state: Any
    _optimizer_step_pre_hooks: dict[int, Any]
    _optimizer_step_post_hooks: dict[int, Any]
    defaults: dict[str, Any]
    max_norm: float | None = None
    ema: float | None = None

    def _set_options(self, max_norm: float | None, ema: float | None) -> None:
        self.max_norm = check_optional_number("max_norm", max_norm, above=0)
        self.ema = check_optional_number("ema", ema, minimum=0, maximum=1)

    # ---- What the optimizers say of themselves ----

    def _states(self, group: Group) -> dict[str, str]:
        """Return the names of the states that the group's options need: the kernel's, PyTorch's."""
        raise NotImplementedError

    def _hyperparameters(self, group: Group) -> dict[str, Any]:
        """Return the group's numbers by the kernel's names."""
        raise NotImplementedError

    def _check_group(self, group: Group) -> None:
        """Raise for options of a group that PyTorch's class takes and the kernel does not."""

    def _initial_state(self, name: str, param: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(param)

    # ---- PyTorch's interface ----

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as PyTorch does, if the kernels can step it."""
        super().add_param_group(param_group)  # type: ignore[misc]
        try:
            self._check(len(self.param_groups) - 1)
        except Exception:
            del self.param_groups[-1]
            raise

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, "max_norm": self.max_norm, "ema": self.ema}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class or of PyTorch's, as PyTorch does."""
        super().load_state_dict(state_dict)  # type: ignore[misc]
        # PyTorch casts states to the parameter's type: averages are longer where that is short.
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for key, param in zip(saved, params, strict=False):
            average = state_dict["state"].get(key, {}).get("ema")
            if average is not None and "ema" in self.state.get(param, {}):
                self.state[param]["ema"] = average.to(param.device, _average_dtype(param))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient.

        Parameters
        ----------
        closure
            Called first, with gradients enabled: it evaluates the model and returns the loss.

        Returns
        -------
        The closure's loss; None without one.

        Raises
        ------
        RuntimeError
            For a sparse gradient.
        TypeError, ValueError, NotImplementedError
            For tensors or numbers that the kernels do not take, by name. Nothing is changed then.
        """
        # What PyTorch wraps every step in takes longer than the update of many small parameters.
        observed = (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()
        )
        return self._observed_step(closure) if observed else self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found_inf = getattr(self, "found_inf", None)
        if found_inf is None or number(found_inf) == 0.0:
            self._update()
        return loss

    _observed_step = torch.optim.Optimizer.profile_hook_step(_step)

    @contextmanager
    def averaged_parameters(self) -> Iterator[None]:
        """Let the parameters hold their moving averages inside a ``with`` statement.

        Raises
        ------
        ValueError
            Without `ema`, or before the first step.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        averaged = [p for p in params if "ema" in self.state.get(p, {})]
        if not averaged:
            raise ValueError(
                "`ema` must be given, and a step be made, before there are averages. "
                f"Received: ema={self.ema}"
            )
        with torch.no_grad():
            kept = [p.detach().clone() for p in averaged]
            for p in averaged:
                p.copy_(self.state[p]["ema"])
        try:
            yield
        finally:
            with torch.no_grad():
                for p, values in zip(averaged, kept, strict=True):
                    p.copy_(values)

    # ---- The step ----

    def _check(self, index: int) -> None:
        group = self.param_groups[index]
        if group["differentiable"]:
            raise NotImplementedError(
                "`differentiable` must be False: the kernels write in place, and autograd cannot "
                "go through them. Received: differentiable=True"
            )
        for name, param in zip(_names(index, group), group["params"], strict=True):
            if param.dtype not in DTYPES:
                raise TypeError(
                    f"`{name}` must be float32, float64, float16 or bfloat16; complex parameters "
                    f"have no kernel. Received: dtype={param.dtype}"
                )
        self._check_group(group)

    def _update(self) -> None:
        scale = getattr(self, "grad_scale", None)
        scale = None if scale is None else number(scale)
        groups = [
            (
                group["params"],
                self._states(group),
                self._hyperparameters(group),
                number(group["weight_decay"]),
                bool(group.get("decoupled_weight_decay", False)),
                bool(group["maximize"]),
            )
            for group in self.param_groups
            if not group["differentiable"]
        ]
        stepped = None
        if len(groups) == len(self.param_groups):
            how = (self.counts_steps, scale, self.max_norm, self.ema)
            stepped = _core.torch_step(self.kind, groups, self.state, *how)
        if stepped is None:
            with torch.no_grad():
                stepped = self._step_new_lists(scale)
        increment_version(stepped)

    def _step_new_lists(self, scale: float | None) -> list[torch.Tensor]:
        """Make what states are missing, and a step. Return the tensors that it changed."""
        lists = []
        for index, group in enumerate(self.param_groups):
            self._check(index)
            how = {
                "hyperparameters": self._hyperparameters(group),
                "weight_decay": number(group["weight_decay"]),
                "decoupled_weight_decay": bool(group.get("decoupled_weight_decay", False)),
                "maximize": bool(group["maximize"]),
                "ema_momentum": 0.0 if self.ema is None else self.ema,
            }
            lists += [(step_list, how) for step_list in self._lists(index, group)]
        clip = self._clip([one for one, _ in lists], scale)
        calls = [one.call(self.kind) | how | clip for one, how in lists]
        for call in calls if len(calls) > 1 else ():
            ops.optimizer_step(**call, check_only=True)
        for call, (one, _) in zip(calls, lists, strict=True):
            ops.optimizer_step(**call)
            if one.averages_begin and self.ema is not None:
                one.average(self.ema)
            if one.steps:
                torch._foreach_add_(one.steps, 1)
        return [tensor for one, _ in lists for tensor in one.written()]

    def _lists(self, index: int, group: Group) -> list[StepList]:
        names = self._states(group)
        lists: dict[Any, StepList] = {}
        for name, owner in zip(_names(index, group), group["params"], strict=True):
            if owner.grad is None:
                continue
            grad = gradient_of(name, owner)
            param = memory_of(name, owner)
            one = lists.setdefault((param.device, param.dtype == torch.float64), StepList())
            one.owners.append(owner)
            one.names.append(name)
            one.params.append(param)
            one.grads.append(grad)
            self._add_states(one, group, owner, names)
        return list(lists.values())

    def _add_states(
        self, one: StepList, group: Group, owner: torch.Tensor, names: dict[str, str]
    ) -> None:
        state = self.state[owner]
        if self.counts_steps:
            if "step" not in state:
                state["step"] = _initial_step(group, owner)
            one.steps.append(state["step"])
        one.first.append(any(state.get(name) is None for name in names.values()))
        for ours, theirs in names.items():
            if state.get(theirs) is None:
                state[theirs] = self._initial_state(theirs, owner)
            one.states.setdefault(ours, []).append(_state_memory(state, theirs, owner))
        if self.ema is not None:
            one.fresh_averages.append("ema" not in state)
            if "ema" not in state:
                state["ema"] = torch.zeros_like(owner, dtype=_average_dtype(owner))
            one.averages.append(_state_memory(state, "ema", owner))

    def _clip(self, lists: list[StepList], scale: float | None) -> dict[str, Any]:
        """Return the options that divide gradients by `scale` and clip them to `max_norm`."""
        if self.max_norm is None:
            return {"grad_scale": scale}
        distributed = any(is_distributed(owner) for one in lists for owner in one.owners)
        if len(lists) < 2 and not distributed:
            return {"grad_scale": scale, "max_norm": self.max_norm}
        if distributed:
            grads = [owner.grad for one in lists for owner in one.owners]
            total = torch.nn.utils.get_total_norm(grads)
            norm = number(total.full_tensor() if is_distributed(total) else total)
        else:
            norm = hypot(*(ops.global_norm(one.grads) for one in lists))
        scale = 1.0 if scale is None else scale
        factor = self.max_norm / (norm / scale + 1e-6)
        if isfinite(norm):
            return {"grad_scale": scale / min(factor, 1.0)}
        # As torch.nn.utils.clip_grad_norm_: NaN everywhere, or beside infinities only zeros.
        for one in lists:
            one.grads = torch._foreach_mul(one.grads, factor)
        return {"grad_scale": scale}


def _names(index: int, group: Group) -> list[str]:
    indices = range(len(group["params"]))
    return group.get("param_names") or [f"param_groups[{index}]['params'][{i}]" for i in indices]


def _average_dtype(param: torch.Tensor) -> torch.dtype:
    return torch.float64 if param.dtype == torch.float64 else torch.float32


def _initial_step(group: Group, param: torch.Tensor) -> torch.Tensor:
    """Return a count of 0 where and how PyTorch keeps it."""
    on_device = group.get("capturable") or group.get("fused")
    wide = torch.get_default_dtype() == torch.float64 and not group.get("fused")
    dtype = torch.float64 if wide else torch.float32
    return torch.zeros((), dtype=dtype, device=param.device if on_device else "cpu")


def _state_memory(state: dict[str, Any], name: str, owner: torch.Tensor) -> torch.Tensor:
    """Return a state's memory; one that was loaded from another layout moves to the parameter's."""
    if not is_distributed(owner):
        state[name] = laid_out_as(owner, state[name])
    return memory_of(name, state[name])
