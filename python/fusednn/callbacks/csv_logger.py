"""The logs of each epoch as lines of a file."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from fusednn.callbacks.callback import Callback, Logs


class CSVLogger(Callback):
    """Writes the logs of each epoch to a CSV file: "epoch", from 0, then the names in order.

    Parameters
    ----------
    filename : path-like
    separator : str
    append : bool
        Go on in a file that is there, instead of replacing it.

    Notes
    -----
    The file is replaced when the first epoch ends. A training that `BackupAndRestore` takes up
    again goes on in the file that it left. (Keras replaces that, too, without `append`.) An array,
    as of `F1Score()`, is written as ``"[0.5, 0.25]"``, quotation marks included.
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"`separator` must be one character. Received: {separator!r}")
        self.filename = Path(filename)
        self.separator = separator
        self.append = bool(append)
        self._names: list[str] | None = None
        self._goes_on = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start anew: the first line replaces the file, unless it is gone on with."""
        self._goes_on = self.append
        if not self.append and not self.filename.exists():
            self.filename.write_text("")  # a folder that is not there is noticed now
        self._names = None

    def get_state(self) -> dict[str, Any]:
        """Return the columns, and how long the file is."""
        size = self.filename.stat().st_size if self.filename.exists() else 0
        return {"_names": self._names, "size": size if self._goes_on else None}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the columns; cut lines off that were written after the state was."""
        self._names = state["_names"]
        if state["size"] is not None and self.filename.exists():
            self._goes_on = True
            os.truncate(self.filename, min(state["size"], self.filename.stat().st_size))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a line; "NA" where the logs of a later epoch lack a name of the first."""
        values: dict[str, Any] = dict(logs or {})
        with self.filename.open("a" if self._goes_on else "w", newline="") as file:
            self._goes_on = True
            writer = csv.writer(file, delimiter=self.separator)
            if self._names is None:
                self._names = sorted(values)
                if file.tell() == 0:
                    writer.writerow(["epoch", *self._names])
            writer.writerow([epoch, *(_cell(values.get(name, "NA")) for name in self._names)])


def _cell(value: Any) -> Any:
    return f'"[{", ".join(map(str, value))}]"' if np.ndim(value) else value
