"""The end of training when nothing gets better."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn._arguments import check_number
from fusednn.callbacks.callback import Logs
from fusednn.callbacks.monitor import MonitorCallback


class EarlyStopping(MonitorCallback):
    """Ends training when a quantity has stopped improving.

    Parameters
    ----------
    monitor : str
        A name in the epoch's logs.
    min_delta : float
        A change by this much or less is no improvement.
    patience : int
        Epochs without improvement after which training ends.
    verbose : {0, 1}
        1 prints what is done.
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" takes "max" for names that hold "acc" or "auc",
        else "min".
    baseline : float, optional
        An epoch that does not get beyond this value counts as one without improvement.
    restore_best_weights : bool
        Set the model to its weights of the best epoch when training ends, for whatever reason.
    start_from_epoch : int
        Earlier epochs are not looked at.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = int(check_number("patience", patience, minimum=0))
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._forget()

    def _forget(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[np.ndarray[Any, np.dtype[Any]]] | None = None

    def get_state(self) -> dict[str, Any]:
        """Return what is known of the epochs so far."""
        names = ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")
        return {name: getattr(self, name) for name in names}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier fit."""
        self._forget()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare with the best epoch."""
        value = self.monitored(logs)
        if value is None:
            return
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.improves(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improves(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights, if asked to."""
        if self.stopped_epoch > 0 and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring model weights from the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)
