"""What the optimizers have in common: the step, and the options that PyTorch's lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar

import torch
from torch.autograd.graph import increment_version
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from fusednn import _core
from fusednn._arguments import check_optional_number
from fusednn.torch.optim.counts import is_on_device, separate_counts, share_equal_counts
from fusednn.torch.optim.new_lists import NewLists, average_dtype
from fusednn.torch.optim.tensors import DTYPES, names_of, number

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
    _holds_averages: bool = False

    def _set_options(self, max_norm: float | None, ema: float | None) -> None:
        self.max_norm = check_optional_number("max_norm", max_norm, above=0)
        self.ema = check_optional_number("ema", ema, minimum=0, maximum=1)

    def _given_options(self) -> dict[str, float]:
        options = {"max_norm": self.max_norm, "ema": self.ema}
        return {name: value for name, value in options.items() if value is not None}

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
        own = {"max_norm": self.max_norm, "ema": self.ema}
        return {**state, **own, "state": separate_counts(self.state)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        for group in self.param_groups:
            share_equal_counts(self.state.get(p, {}) for p in group["params"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class or of PyTorch's, as PyTorch does.

        `max_norm` and `ema` are loaded, as all options are, where they are in `state_dict`.
        """
        own = {name: state_dict.get(name, getattr(self, name)) for name in ("max_norm", "ema")}
        super().load_state_dict(state_dict)  # type: ignore[misc]
        self._set_options(**own)
        # PyTorch casts states to the parameter's type: averages are longer where that is short.
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for key, param in zip(saved, params, strict=False):
            average = state_dict["state"].get(key, {}).get("ema")
            if average is not None and "ema" in self.state.get(param, {}):
                self.state[param]["ema"] = average.to(param.device, average_dtype(param))

    def state_dict(self) -> dict[str, Any]:
        """Return what PyTorch's class of the same name saves, and can load.

        Beside it are `max_norm` and `ema`, if they are given.
        """
        saved: dict[str, Any] = super().state_dict()  # type: ignore[misc]
        return {**saved, "state": dict(separate_counts(saved["state"])), **self._given_options()}

    def __repr__(self) -> str:
        groups: str = super().__repr__()
        own = "".join(f"{name}: {value}\n" for name, value in self._given_options().items())
        return f"{groups[:-1]}{own})"

    # torch.compile has nothing to gain here, and warns of calls of C.
    @torch._disable_dynamo  # type: ignore[untyped-decorator]
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
            For a sparse gradient, and inside of `averaged_parameters`.
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

    step.hooked = True

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        if self._holds_averages:
            raise RuntimeError(
                "`step` must not be called inside of averaged_parameters(), which would undo it."
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found_inf = getattr(self, "found_inf", None)
        if found_inf is None or is_on_device(found_inf):
            self._update(found_inf)
        elif number(found_inf) == 0.0:
            self._update(None)
        return loss

    _observed_step = torch.optim.Optimizer.profile_hook_step(_step)

    @contextmanager
    def averaged_parameters(self) -> Iterator[None]:
        """Let the parameters hold their moving averages inside a ``with`` statement.

        `step` is refused inside of it: its update would be lost.

        Raises
        ------
        RuntimeError
            Inside of another one.
        ValueError
            Without `ema`, or before the first step.
        """
        if self._holds_averages:
            raise RuntimeError("`averaged_parameters` must not be entered inside of itself.")
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
        self._holds_averages = True
        try:
            yield
        finally:
            self._holds_averages = False
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
        for option in ("max_norm", "ema"):
            if option in group:
                raise ValueError(
                    f"`{option}` must be an argument of the optimizer, for all of its groups. "
                    f"Received: {option}={group[option]!r} in param_groups[{index}]"
                )
        for name, param in zip(names_of(index, group), group["params"], strict=True):
            if param.dtype not in DTYPES:
                raise TypeError(
                    f"`{name}` must be float32, float64, float16 or bfloat16; complex parameters "
                    f"have no kernel. Received: dtype={param.dtype}"
                )
        self._check_group(group)

    def _update(self, found_inf: torch.Tensor | None) -> None:
        scale = getattr(self, "grad_scale", None)
        stepped = None
        if found_inf is None:
            stepped = self._step_known_lists(None if scale is None else number(scale))
        if stepped is None:
            with torch.no_grad():
                stepped = self._step_new_lists(scale, found_inf)
        increment_version(stepped)

    def _step_known_lists(self, scale: float | None) -> list[torch.Tensor] | None:
        """Step parameters of the CPU that have their states; None where something is unusual."""
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
            if _is_plain(group)
        ]
        if len(groups) != len(self.param_groups):
            return None
        stepped: list[torch.Tensor] | None = _core.torch_step(
            self.kind, groups, self.state, self.counts_steps, scale, self.max_norm, self.ema
        )
        return stepped

    def _step_new_lists(self, scale: Any, found_inf: torch.Tensor | None) -> list[torch.Tensor]:
        lists = NewLists(self)
        try:
            lists.collect()
            return lists.step(scale, found_inf)
        except Exception:
            lists.take_back()
            raise


def _is_plain(group: Group) -> bool:
    """Return whether a group has no option that is refused, or not for parameters on the CPU."""
    refused = group["differentiable"] or "max_norm" in group or "ema" in group
    return not (refused or group.get("capturable"))
