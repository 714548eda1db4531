"""Up to a high rate, and down again below where it began (Smith 2018)."""

from __future__ import annotations

from fusednn._arguments import check_number
from fusednn.optimizers.schedules.base import LearningRateSchedule
from fusednn.optimizers.schedules.cosine import cosine_between


class OneCycle(LearningRateSchedule):
    """From ``max_learning_rate / div_factor`` up to the maximum, then far down.

    The last rate is the first one divided by `final_div_factor`. The numbers and names are those
    of PyTorch's `OneCycleLR` with ``cycle_momentum=False``; Keras has no such schedule. After
    `total_steps` the last rate stays (PyTorch raises).

    Parameters
    ----------
    max_learning_rate
        >= 0; a tenth of the rate at which the loss begins to rise, see
        `fusednn.models.find_learning_rate`.
    total_steps
        >= 2: epochs times batches an epoch.
    pct_start
        In [0, 1]: the fraction of the steps that climb.
    anneal_strategy : {"cos", "linear"}
        The form of the way up and of the way down.
    div_factor, final_div_factor
        > 0.
    three_phase
        Go down to the first rate as steeply as up, and spend the steps that are left on the way to
        the last one: with ``pct_start=0.45, anneal_strategy="linear"`` the form of Smith's paper.
    name
        See `LearningRateSchedule`.
    """

    config_names = (
        "max_learning_rate",
        "total_steps",
        "pct_start",
        "anneal_strategy",
        "div_factor",
        "final_div_factor",
        "three_phase",
    )

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        name: str = "OneCycle",
    ) -> None:
        super().__init__(name)
        self.max_learning_rate = check_number("max_learning_rate", max_learning_rate, minimum=0)
        self.total_steps = int(check_number("total_steps", total_steps, minimum=2))
        highest = 0.5 if three_phase else 1.0
        self.pct_start = check_number("pct_start", pct_start, minimum=0, maximum=highest)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                "`anneal_strategy` must be 'cos' or 'linear'. "
                f"Received: anneal_strategy={anneal_strategy!r}"
            )
        self.anneal_strategy = anneal_strategy
        self.div_factor = check_number("div_factor", div_factor, above=0)
        self.final_div_factor = check_number("final_div_factor", final_div_factor, above=0)
        self.three_phase = bool(three_phase)
        first = self.max_learning_rate / self.div_factor
        top = self.pct_start * self.total_steps - 1
        end = self.total_steps - 1
        #: The steps where the straight or curved pieces end, and the rates there.
        self._corners = [(0.0, first), (top, self.max_learning_rate)]
        if self.three_phase:
            self._corners.append((2 * top, first))
        self._corners.append((end, first / self.final_div_factor))

    def rate(self, step: float) -> float:
        """See `LearningRateSchedule.rate`."""
        for (start, low), (end, high) in zip(self._corners, self._corners[1:], strict=False):
            if step <= end and start < end:
                fraction = (step - start) / (end - start)
                if self.anneal_strategy == "cos":
                    return cosine_between(low, high, fraction)
                return low + (high - low) * fraction
        return self._corners[-1][1]
