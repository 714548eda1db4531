"""The model in a file, while it trains."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fusednn.callbacks.callback import Logs
from fusednn.callbacks.monitor import MonitorCallback
from fusednn.callbacks.save_frequency import SaveFrequency


class ModelCheckpoint(SaveFrequency, MonitorCallback):
    """Saves the model, or its weights, every so often; a crash leaves the last file whole.

    Parameters
    ----------
    filepath : path-like
        Ends with ``.keras`` or ``.h5``, with `save_weights_only` with ``.weights.h5``. Names of the
        logs and ``epoch``, from 1, are filled in: ``"{epoch:02d}-{val_loss:.3f}.keras"``. Folders
        that are not there are made.
    monitor, mode
        See `MonitorCallback`.
    verbose : {0, 1}
        1 prints what is done.
    save_best_only : bool
        Save only where the quantity is better than ever before.
    save_weights_only : bool
        Save weights alone.
    save_freq : "epoch" or int
        Save after each epoch, or after so many batches.
    initial_value_threshold : float, optional
        What the first epoch has to be better than.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        ending = ".weights.h5" if save_weights_only else (".keras", ".h5")
        if not self.filepath.endswith(ending):
            wanted = ending if isinstance(ending, str) else " or ".join(ending)
            raise ValueError(
                f"`filepath` must end with {wanted}. Received: filepath={self.filepath}"
            )
        self.verbose = verbose
        self.save_best_only = bool(save_best_only)
        self.save_weights_only = bool(save_weights_only)
        self._set_save_freq(save_freq)
        self.best = initial_value_threshold
        self._epoch = 0

    def get_state(self) -> dict[str, Any]:
        """Return the best value, the batches since the latest file, and those of the epoch."""
        return {"best": self.best, "_batches": self._batches, "_seen": self._seen}

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch
        self._seen = 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save after so many batches."""
        if self._is_due(batch):
            self._save(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save after an epoch."""
        if self.save_freq == "epoch":
            self._save(logs)

    def _save(self, logs: Logs | None) -> None:
        if self.save_best_only:
            value = self.monitored(logs)
            if value is None or not self.improves(value, self.best):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=self._epoch + 1, **(logs or {}))
        except KeyError as error:
            raise KeyError(
                f"`filepath` names {error}, which the logs do not have: {', '.join(logs or ())}. "
                f"Received: filepath={self.filepath}"
            ) from None
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose:
            print(f"\nEpoch {self._epoch + 1}: saving model to {path}")
