"""The learning rate of an optimizer: a number or a schedule, and Keras 2's `decay`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from fusednn._arguments import check_number
from fusednn.optimizers import schedules
from fusednn.optimizers.options import LearningRate
from fusednn.optimizers.schedules import LearningRateSchedule


class RateNumber(float):
    """An optimizer's learning rate: a number, which can be told another value, as in Keras.

    ``optimizer.learning_rate.assign(0.1)`` is ``optimizer.learning_rate = 0.1``; the number itself
    stays what it is. A copy is a plain number.
    """

    _rate: Rate

    @classmethod
    def of(cls, rate: Rate, value: float) -> RateNumber:
        """Return the number `value`, which `rate` gave."""
        number = cls(value)
        number._rate = rate
        return number

    def assign(self, value: float) -> None:
        """Set the optimizer's learning rate."""
        self._rate.replace(float(value))

    @property
    def value(self) -> float:
        """The number."""
        return float(self)

    def numpy(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the number as an array without axes, float32."""
        return np.asarray(float(self), np.float32)

    def __reduce__(self) -> Any:
        return float, (float(self),)

    def __copy__(self) -> float:
        return float(self)

    def __deepcopy__(self, memo: Any) -> float:
        return float(self)


class Rate:
    """What an optimizer asks for its rate.

    Parameters
    ----------
    value
        A number >= 0, a function of the steps taken or of nothing, or the configuration of a
        schedule.
    decay
        >= 0: the rate is divided by ``1 + decay * steps``.
    """

    def __init__(self, value: LearningRate | Mapping[str, Any], decay: float = 0.0) -> None:
        self._take(value)
        self.decay = check_number("decay", decay, minimum=0)

    @property
    def varies(self) -> bool:
        """Whether there is a schedule or another function."""
        return callable(self._value)

    def before_decay(self, steps: int) -> float:
        """Return the number, or the schedule's after so many steps."""
        if callable(self._value):
            arguments = (steps,) if self._of_steps else ()
            return check_number("learning_rate", self._value(*arguments), minimum=0)
        return self._value

    def after(self, steps: int) -> float:
        """Return the rate of the step that comes after so many."""
        rate = self.before_decay(steps)
        return rate / (1 + self.decay * steps) if self.decay else rate

    def replace(self, value: LearningRate) -> None:
        """Take another value; TypeError for a number where there is a schedule, as in Keras."""
        if callable(self._value) and not callable(value):
            raise TypeError(
                "`learning_rate` follows a schedule and cannot be set to a number: make the "
                f"optimizer with a number instead. Received: learning_rate={value!r}"
            )
        self._take(value)

    def _take(self, value: LearningRate | Mapping[str, Any]) -> None:
        self._value = _checked(value)
        self._of_steps = _counts_steps(self._value)

    def config(self) -> Any:
        """Return the number, the configuration of a schedule, or another function itself."""
        if isinstance(self._value, LearningRateSchedule):
            return schedules.serialize(self._value)
        return self._value


def _counts_steps(function: Any) -> bool:
    """Whether a function of the learning rate takes the steps made; Keras' take nothing."""
    if isinstance(function, LearningRateSchedule) or not callable(function):
        return True
    try:
        inspect.signature(function).bind(0)
    except TypeError:
        return False
    except ValueError:  # of C, and without a signature
        pass
    return True


def _checked(value: LearningRate | Mapping[str, Any]) -> LearningRate:
    if isinstance(value, Mapping):
        return schedules.deserialize(value)
    if callable(value):
        return value
    return float(check_number("learning_rate", value, minimum=0))
