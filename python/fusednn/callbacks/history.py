"""The record of a training run."""

from __future__ import annotations

from typing import Any

from fusednn.callbacks.callback import Callback, Logs


class History(Callback):
    """Records the logs of each epoch; `Sequential.fit` returns it.

    Attributes
    ----------
    history : dict of str to list of float
        ``history["loss"][i]`` belongs to ``epoch[i]``. Lists of arrays for metrics that have a
        number for each class, as `F1Score()`.
    epoch : list of int
    params : dict
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start the list of epochs again; `history` goes on, as in Keras."""
        self.epoch = []

    def get_state(self) -> dict[str, Any]:
        """Return the record."""
        return {"epoch": self.epoch, "history": self.history}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
