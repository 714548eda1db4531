"""A step of an optimizer on a GPU as work that is given once and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.devices import Device
from fusednn.optimizers.calls import Call
from fusednn.optimizers.options import Array

if TYPE_CHECKING:
    from fusednn.optimizers.base import Optimizer


class DeviceStep:
    """The same call of `Optimizer.apply` again and again, in three parts.

    `prepare` brings what changes from step to step to the device, `give` gives the work, which
    takes these numbers from there and may be replayed, and `finish` does what is left for the host.
    On the device the learning rate is a float32.

    Parameters
    ----------
    optimizer, call, device
        As `device_step` found them.
    """

    def __init__(self, optimizer: Optimizer, call: Call, device: Device) -> None:
        assert optimizer._slots is not None
        self.call = call
        self._optimizer = optimizer
        self._slots = optimizer._slots
        self._device = device
        self._multipliers = [group.rate for group in self._slots.groups]
        self._rates = [device.empty((), np.float32) for _ in self._multipliers]
        # A kernel counts for itself, so each call has a counter.
        self._steps = [device.empty((), np.float32) for _ in self._multipliers]
        self._numbers = [
            {"lr": lr, "step": step} for lr, step in zip(self._rates, self._steps, strict=True)
        ]
        self._lr_there = -1.0
        self._steps_there = -1
        #: What the given work was made for, besides arrays and these numbers.
        self.settings = _settings(optimizer)

    def fits(self, grads: Sequence[Array | None], variables: Sequence[Any]) -> bool:
        """Whether the step is still that of `apply` with these tuples and the settings of now."""
        optimizer = self._optimizer
        optimizer._follow_variables()
        return (
            optimizer._latest is self.call
            and self.call.grads is grads
            and self.call.variables is variables
            and self.settings == _settings(optimizer)
        )

    def prepare(self) -> None:
        """Bring learning rate and number of the step to the device, where they are not there."""
        taken = self._optimizer.iterations
        lr = self._optimizer._rate.after(taken)
        if lr != self._lr_there:
            for rate, multiplier in zip(self._rates, self._multipliers, strict=True):
                self._device.write(rate, np.array(lr * multiplier, np.float32))
            self._lr_there = lr
        if taken != self._steps_there:
            for step in self._steps:
                self._device.write(step, np.array(taken, np.float32))
            self._steps_there = taken

    def give(self) -> None:
        """Give the work to the device."""
        slots = self._slots
        optimizer = self._optimizer
        optimizer._call_kernels(
            slots, slots.groups, self.call.grads, self.call.lists, self._numbers
        )
        slots.constrain()

    def finish(self) -> None:
        """Count the step, after the work was given."""
        optimizer = self._optimizer
        self._steps_there += 1
        optimizer._iterations += 1
        optimizer._overwrite_with_averages(self._slots, optimizer.iterations)


def device_step(
    optimizer: Optimizer,
    grads: Sequence[Array | None],
    variables: Sequence[Any],
    device: Device,
) -> DeviceStep | None:
    """Return the step that `apply` with these tuples makes; None where it has to be `apply`.

    That is so for the first step, which builds the states and is checked in full, where the host
    has to know the norm over several kernel calls, or whether gradients are finite, and where
    gradients are accumulated: not all steps are the same work then.
    """
    optimizer._follow_variables()
    call, slots = optimizer._latest, optimizer._slots
    if call is None or slots is None or call.grads is not grads or call.variables is not variables:
        return None
    if len(slots.groups) > 1 and optimizer.global_clipnorm:
        return None
    if optimizer.skip_nonfinite or optimizer.gradient_accumulation_steps:
        return None
    return DeviceStep(optimizer, call, device)


#: What does not become part of the work that is given.
_NUMBERS_OF_A_STEP = {"_iterations", "_latest", "_rate", "skipped"}


def _settings(optimizer: Optimizer) -> list[Any]:
    return [value for name, value in vars(optimizer).items() if name not in _NUMBERS_OF_A_STEP]
