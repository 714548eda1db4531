"""What all schedules share."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fusednn._arguments import check_number
from fusednn._serialization import Configurable


class LearningRateSchedule(Configurable):
    """Base class: a learning rate as a function of the steps already taken.

    A new schedule is a subclass with `rate`; its constructor arguments are listed in
    `config_names`.

    Parameters
    ----------
    name : str, optional
        Has no effect; part of Keras' configurations.
    """

    config_names: ClassVar[tuple[str, ...]] = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    def rate(self, step: float) -> float:
        """Return the rate of the step after `step` steps, which is >= 0."""
        raise NotImplementedError(f"{type(self).__name__} must define `rate`.")

    def __call__(self, step: Any) -> float:
        """Return the learning rate, computed in double precision (Keras: float32).

        Raises
        ------
        TypeError, ValueError
            `step` is no number, negative or not finite.
        """
        if isinstance(step, np.ndarray) and step.ndim == 0:
            step = step[()]
        return float(self.rate(check_number("step", step, minimum=0)))
