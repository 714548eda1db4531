"""What several callbacks share: a quantity of the logs, and what counts as an improvement."""

from __future__ import annotations

import warnings

import numpy as np

from fusednn._arguments import check_number
from fusednn.callbacks.callback import Callback, Logs


class MonitorCallback(Callback):
    """Base of callbacks that watch one quantity of an epoch's logs.

    Parameters
    ----------
    monitor : str
        A name in the epoch's logs, of a number.
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" takes less for the loss, and for a metric what the
        metric says. Where none says it, as of counts of positives and of plain functions, the end
        of the first epoch raises ValueError, as in Keras.
    min_delta : float
        A change by this much or less is no improvement.
    """

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"`mode` must be 'auto', 'min' or 'max'. Received: mode={mode!r}")
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(check_number("min_delta", min_delta))

    def monitored(self, logs: Logs | None) -> float | None:
        """Return the quantity; None, with a warning, where the logs do not have it."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__} monitors '{self.monitor}', which the logs do not have: "
                f"{', '.join(logs or ())}.",
                stacklevel=3,
            )
            return None
        if np.ndim(value):
            raise ValueError(
                f"`monitor` of {type(self).__name__} must name one number: look at the metric's "
                f'arguments, as `average="macro"`. Received: monitor={self.monitor!r}, an array of '
                f"shape {np.shape(value)}"
            )
        if self.mode == "auto":
            self.mode = self._found_mode()
        return float(value)

    def _found_mode(self) -> str:
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return "min"
        objective = self.model._compiled()
        for other, metric in zip(objective.names[1:], objective.metrics or (), strict=False):
            if other == name and metric._direction is not None:
                return "max" if metric._direction == "up" else "min"
        raise ValueError(
            f"`mode` of {type(self).__name__} must be 'min' or 'max': no metric says whether less "
            f"or more of '{self.monitor}' is better. Received: mode='auto'"
        )

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether `value` is better than `reference`; anything is better than None."""
        if reference is None:
            return True
        gain = reference - value if self.mode == "min" else value - reference
        return gain > self.min_delta
