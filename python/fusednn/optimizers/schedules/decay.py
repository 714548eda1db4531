"""Rates that fall along a formula of one line."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import ClassVar

from fusednn._arguments import check_number
from fusednn.optimizers.schedules.base import LearningRateSchedule


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate
        >= 0.
    decay_steps
        > 0: the rate is multiplied by `decay_rate` every so many steps.
    decay_rate
        >= 0.
    staircase
        Round ``step / decay_steps`` down: the rate falls in steps.
    name
        See `LearningRateSchedule`.
    """

    config_names: ClassVar[tuple[str, ...]] = (
        "initial_learning_rate",
        "decay_steps",
        "decay_rate",
        "staircase",
    )

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = check_number(
            "initial_learning_rate", initial_learning_rate, minimum=0
        )
        self.decay_steps = check_number("decay_steps", decay_steps, above=0)
        self.decay_rate = check_number("decay_rate", decay_rate, minimum=0)
        self.staircase = bool(staircase)

    def _periods(self, step: float) -> float:
        periods = step / self.decay_steps
        return math.floor(periods) if self.staircase else periods

    def rate(self, step: float) -> float:
        """See `LearningRateSchedule.rate`."""
        return float(self.initial_learning_rate * self.decay_rate ** self._periods(step))


class InverseTimeDecay(ExponentialDecay):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``.

    Power scheduling with an exponent of 1, and what `decay` of Keras 2 did.

    Parameters
    ----------
    initial_learning_rate, decay_steps, decay_rate, staircase, name
        As of `ExponentialDecay`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def rate(self, step: float) -> float:
        """See `LearningRateSchedule.rate`."""
        return self.initial_learning_rate / (1 + self.decay_rate * self._periods(step))


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate as ``(1 - step / decay_steps) ** power``, then constant.

    Parameters
    ----------
    initial_learning_rate, end_learning_rate
        >= 0.
    decay_steps
        > 0.
    power
        > 0; 1 is linear.
    cycle
        Instead of staying at the end rate, start again with the next multiple of `decay_steps` as
        the length.
    name
        See `LearningRateSchedule`.
    """

    config_names = (
        "initial_learning_rate",
        "decay_steps",
        "end_learning_rate",
        "power",
        "cycle",
    )

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = check_number(
            "initial_learning_rate", initial_learning_rate, minimum=0
        )
        self.decay_steps = check_number("decay_steps", decay_steps, above=0)
        self.end_learning_rate = check_number("end_learning_rate", end_learning_rate, minimum=0)
        self.power = check_number("power", power, above=0)
        self.cycle = bool(cycle)

    def rate(self, step: float) -> float:
        """See `LearningRateSchedule.rate`."""
        length = self.decay_steps
        if self.cycle:
            length *= max(1, math.ceil(step / length))
        left = (1 - min(step, length) / length) ** self.power
        return float(left * (self.initial_learning_rate - self.end_learning_rate)) + (
            self.end_learning_rate
        )


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[i]`` up to and including step ``boundaries[i]``, then the next; at last the last.

    Parameters
    ----------
    boundaries : sequence of number
        Increasing.
    values : sequence of number
        One more than there are boundaries; >= 0.
    name
        See `LearningRateSchedule`.
    """

    config_names = ("boundaries", "values")

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        super().__init__(name)
        self.boundaries = list(boundaries)
        self.values = list(values)
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "`values` must hold one number more than `boundaries`. "
                f"Received: boundaries={self.boundaries}, values={self.values}"
            )
        for i, boundary in enumerate(self.boundaries):
            check_number(f"boundaries[{i}]", boundary)
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"`boundaries` must increase. Received: boundaries={self.boundaries}")
        for i, value in enumerate(self.values):
            check_number(f"values[{i}]", value, minimum=0)

    def rate(self, step: float) -> float:
        """See `LearningRateSchedule.rate`."""
        return self.values[bisect.bisect_left(self.boundaries, step)]
