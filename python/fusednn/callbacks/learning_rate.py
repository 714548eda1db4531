"""Learning rates that change from epoch to epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fusednn._arguments import check_number
from fusednn.callbacks.callback import Callback, Logs
from fusednn.callbacks.monitor import MonitorCallback


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of each epoch, and adds "learning_rate" to its logs.

    Parameters
    ----------
    schedule : callable
        Called with the number of the epoch, from 0, and, if it takes two arguments, the rate that
        is set; returns the new one.
    verbose : {0, 1}
        1 prints the rate.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(f"`schedule` must be a function. Received: schedule={schedule!r}")
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        try:
            inspect.signature(self.schedule).bind(epoch, 0.0)
        except TypeError:
            rate = self.schedule(epoch)
        else:
            rate = self.schedule(epoch, optimizer.learning_rate)
        optimizer.learning_rate = check_number("schedule's value", rate, minimum=0)
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Log the rate."""
        if logs is not None and self.model.optimizer is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by `factor` when a quantity has stopped improving.

    Parameters
    ----------
    monitor, mode, min_delta
        See `MonitorCallback`.
    factor : float
        In [0, 1).
    patience : int
        Epochs without improvement after which the rate falls.
    verbose : {0, 1}
        1 prints what is done.
    cooldown : int
        Epochs after a reduction that do not count.
    min_lr : float
        The rate stays at least this.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = check_number("factor", factor, minimum=0, below=1)
        self.patience = int(check_number("patience", patience, minimum=0))
        self.verbose = verbose
        self.cooldown = int(check_number("cooldown", cooldown, minimum=0))
        self.min_lr = check_number("min_lr", min_lr, minimum=0)
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def get_state(self) -> dict[str, Any]:
        """Return what is known of the epochs so far."""
        names = ("best", "wait", "cooldown_counter")
        return {name: getattr(self, name) for name in names}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier fit."""
        self._forget()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Log the rate; compare, and reduce it for the next epoch."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        if logs is not None:
            logs["learning_rate"] = optimizer.learning_rate
        value = self.monitored(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                optimizer.learning_rate = rate
                self.cooldown_counter, self.wait = self.cooldown, 0
                if self.verbose:
                    print(
                        f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}."
                    )
