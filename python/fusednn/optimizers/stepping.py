"""How an optimizer makes a step: what is summed up before, the kernel calls, the averages."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn import ops
from fusednn.devices import CPU
from fusednn.optimizers.calls import Call, average_untouched, by_group, check_gradients
from fusednn.optimizers.learning_rate import Rate
from fusednn.optimizers.options import Array, State
from fusednn.optimizers.slots import Group, Slots

if TYPE_CHECKING:
    from fusednn.variable import Variable


class Stepping:
    """Base of `Optimizer`: everything between gradients that were found to fit and new values."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    weight_decay: float | None
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    quantized_states: bool
    skip_nonfinite: bool
    stochastic_rounding_seed: int | None
    #: Steps that `skip_nonfinite` left out.
    skipped: int
    _rate: Rate
    _iterations: int  # calls of `apply`
    _slots: Slots | None
    _latest: Call | None
    _scaled: bool  # whether gradients are those of a loss times `loss_scale_factor`

    # ---- what a subclass provides

    @property
    def iterations(self) -> int:
        """Number of steps taken."""
        raise NotImplementedError

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """Call the kernel."""
        raise NotImplementedError

    def finalize_variable_values(self, variables: Sequence[Variable]) -> None:
        """Set the variables to their moving averages."""
        raise NotImplementedError

    # ---- a step

    @contextmanager
    def plain_gradients(self) -> Iterator[None]:
        """Have the block's gradients taken as they are, not as those of a scaled loss."""
        self._scaled = False
        try:
            yield
        finally:
            self._scaled = True

    def _follow_variables(self) -> None:
        """Arrange everything anew if variables moved or got other rates since the last step."""
        if self._slots is not None and self._slots.follow_variables():
            self._latest = None

    def _refuse_quantized_states(self, option: str) -> None:
        """Raise ValueError where `option`, which is set, needs states that 8 bits cannot hold."""
        if self.quantized_states:
            raise ValueError(
                f"`quantized_states` must be False with `{option}`, whose states do not bear "
                f"errors of 8 bits. Received: quantized_states=True, {option}=True"
            )

    def _apply_some(
        self, slots: Slots, grads: Sequence[Array | None], variables: Sequence[Variable]
    ) -> None:
        pairs = list(zip(grads, variables, strict=True))
        given = {slots.position(variable): grad for grad, variable in pairs if grad is not None}
        if not given:
            raise ValueError("`grads` must hold a gradient for some variable. Received: only None")
        missing = [variable.path for grad, variable in pairs if grad is None]
        if len(given) + len(missing) < len(pairs):
            raise ValueError(
                f"`variables` must be distinct. Received: {[v.path for v in variables]}"
            )
        if missing:
            warnings.warn(f"No gradient was given for {', '.join(missing)}.", stacklevel=3)
        every = [given.get(position) for position in range(len(slots.variables))]
        groups = slots.grouped(sorted(given))
        if self.gradient_accumulation_steps:
            check_gradients(every, slots.variables)
        self._advance(slots, groups, every, by_group(groups, every))

    def _advance(
        self,
        slots: Slots,
        groups: Sequence[Group],
        grads: Sequence[Array | None],
        lists: Sequence[list[Array]],
    ) -> None:
        """Take gradients, one or None per variable: sum them up, or step; count that."""
        if self.gradient_accumulation_steps:
            stepped = self._sum_up(slots, groups, grads, self.gradient_accumulation_steps)
        else:
            stepped = self._update(slots, groups, grads, lists)
        if not stepped:
            return
        slots.constrain(grads)
        self._iterations += 1

    def _sum_up(
        self, slots: Slots, groups: Sequence[Group], grads: Sequence[Array | None], every: int
    ) -> bool:
        """Add the gradients to the sums; the last of `every` calls steps by them.

        The averages move at each call, and are taken over at each call of such a step, as in Keras.
        """
        sums = slots.sums
        assert sums is not None
        self._rate.after(self._iterations)  # a schedule that fails does so before anything changed
        scale = self.loss_scale_factor if self._scaled else None
        for total, grad, variable in zip(sums, grads, slots.variables, strict=True):
            if grad is not None:
                with variable.device.working():
                    np.add(total, grad if scale is None else grad / scale, out=total)
        if (self._iterations + 1) % every:
            if slots.averages is not None:
                average_untouched(slots, (), self.ema_momentum if self.iterations else 0.0)
                self._overwrite_with_averages(slots, self.iterations + 1)
            return True
        due = [None if g is None else total for total, g in zip(sums, grads, strict=True)]
        try:
            stepped = self._update(slots, groups, due, by_group(groups, due))
        finally:
            for total in sums:
                total.fill(0)
        if not stepped:
            self._iterations -= every - 1  # none of the calls counts
        return stepped

    def _update(
        self,
        slots: Slots,
        groups: Sequence[Group],
        grads: Sequence[Array | None],
        lists: Sequence[list[Array]],
    ) -> bool:
        """Return whether a step was made, which `skip_nonfinite` may prevent."""
        step = self.iterations + 1
        lr = self._rate.after(self._iterations)
        numbers = [{"step": step, "lr": lr * group.rate} for group in groups]
        if not self._call_kernels(slots, groups, grads, lists, numbers):
            self.skipped += 1
            return False
        if slots.averages is not None:
            # The kernel, too, sets the average to the variable at the first step.
            average_untouched(slots, groups, self.ema_momentum if step > 1 else 0.0)
            self._overwrite_with_averages(slots, step)
        return True

    def _overwrite_with_averages(self, slots: Slots, step: int) -> None:
        if self.ema_overwrite_frequency and step % self.ema_overwrite_frequency == 0:
            self.finalize_variable_values(slots.variables)

    def _call_kernels(
        self,
        slots: Slots,
        groups: Sequence[Group],
        grads: Sequence[Array | None],
        lists: Sequence[list[Array]],
        numbers: Sequence[Mapping[str, Any]],
    ) -> bool:
        """Call the kernel for each group, with its learning rate and number of the step.

        Returns whether a step was made.
        """
        options: dict[str, Any] = {"convention": "keras"}
        # What is not set is left out: each option takes a tenth of a small step's time.
        if self.clipvalue:
            options["clip_value"] = self.clipvalue
        if self.clipnorm:
            options["max_norm_each"] = self.clipnorm
        if self.global_clipnorm:
            options["max_norm"] = self.global_clipnorm
        if slots.averages is not None:
            options["ema_momentum"] = self.ema_momentum
        if self.stochastic_rounding_seed is not None:
            options["stochastic_rounding_seed"] = self.stochastic_rounding_seed
        scale = 1.0
        if self.gradient_accumulation_steps:
            scale = self.gradient_accumulation_steps
        elif self.loss_scale_factor is not None and self._scaled:
            scale = self.loss_scale_factor
        if scale != 1:
            options["grad_scale"] = scale
        if len(groups) > 1:
            # A call that fails must not come after one that did not.
            check_gradients(grads, slots.variables)
        alone = len(groups) == 1 and slots.variables[0].device is CPU
        if self.skip_nonfinite and alone:
            options["skip_nonfinite"] = True
        elif self.skip_nonfinite and not math.isfinite(_norm(grads)):
            return False
        if len(groups) > 1 and self.global_clipnorm:
            # The norm spans the groups, so no single call can take it.
            norm = _norm(grads) / scale
            options["max_norm"] = None
            if math.isfinite(norm):
                options["grad_scale"] = scale * max(norm / self.global_clipnorm, 1.0)
        stepped = True
        for group, grads_of_group, own_numbers in zip(groups, lists, numbers, strict=True):
            own = dict(own_numbers)
            if self.weight_decay and group.decays:
                own["weight_decay"] = self.weight_decay
            if group.averages is not None:
                own["ema"] = group.averages
            if self.step(group.params, grads_of_group, group.states, **options, **own) is False:
                stepped = False
        return stepped


def _norm(grads: Sequence[Array | None]) -> float:
    return ops.global_norm([grad for grad in grads if grad is not None])
