"""Rates that fall along half a period of a cosine (Loshchilov and Hutter 2017)."""

from __future__ import annotations

import math

from fusednn._arguments import check_number, check_optional_number
from fusednn.optimizers.schedules.base import LearningRateSchedule


class CosineDecay(LearningRateSchedule):
    """``rate * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)``, then constant.

    rate is `initial_learning_rate`. With `warmup_target` the rate first climbs from there to the
    target, in a line of `warmup_steps`, and the decay starts from the target.

    Parameters
    ----------
    initial_learning_rate
        >= 0.
    decay_steps
        > 0; the warmup not included.
    alpha
        >= 0: the fraction of the rate that is left.
    name
        See `LearningRateSchedule`.
    warmup_target
        >= 0, or None for no warmup.
    warmup_steps
        >= 0.
    """

    config_names = (
        "initial_learning_rate",
        "decay_steps",
        "alpha",
        "warmup_target",
        "warmup_steps",
    )

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = check_number(
            "initial_learning_rate", initial_learning_rate, minimum=0
        )
        self.decay_steps = check_number("decay_steps", decay_steps, above=0)
        self.alpha = check_number("alpha", alpha, minimum=0)
        self.warmup_target = check_optional_number("warmup_target", warmup_target, minimum=0)
        self.warmup_steps = check_number("warmup_steps", warmup_steps, minimum=0)

    def rate(self, step: float) -> float:
        """See `LearningRateSchedule.rate`."""
        start = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return start + (self.warmup_target - start) * step / self.warmup_steps
            start = self.warmup_target
            step -= self.warmup_steps
        return start * cosine_between(1, self.alpha, min(step / self.decay_steps, 1))


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after another, each starting high again ("SGDR").

    Parameters
    ----------
    initial_learning_rate
        >= 0.
    first_decay_steps
        > 0: the first period.
    t_mul
        >= 1: each period is so many times as long as the one before.
    m_mul
        >= 0: each starts from so many times the rate of the one before.
    alpha
        >= 0: the fraction of `initial_learning_rate` that is left at the end of a period.
    name
        See `LearningRateSchedule`.
    """

    config_names = ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha")

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = check_number(
            "initial_learning_rate", initial_learning_rate, minimum=0
        )
        self.first_decay_steps = check_number("first_decay_steps", first_decay_steps, above=0)
        self.t_mul = check_number("t_mul", t_mul, minimum=1)
        self.m_mul = check_number("m_mul", m_mul, minimum=0)
        self.alpha = check_number("alpha", alpha, minimum=0)

    def rate(self, step: float) -> float:
        """See `LearningRateSchedule.rate`."""
        periods, height = step / self.first_decay_steps, 1.0
        if self.t_mul == 1:
            height = self.m_mul ** math.floor(periods)
            periods %= 1
        else:
            length = 1.0
            while periods >= length:
                periods -= length
                length *= self.t_mul
                height *= self.m_mul
            periods /= length
        return self.initial_learning_rate * (
            (1 - self.alpha) * height * cosine_between(1, 0, periods) + self.alpha
        )


def cosine_between(start: float, end: float, fraction: float) -> float:
    """Go from `start` to `end` along half a period of a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))
