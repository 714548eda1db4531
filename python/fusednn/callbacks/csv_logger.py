"""The logs of each epoch as lines of a file."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from fusednn.callbacks.callback import Callback, Logs


class CSVLogger(Callback):
    """Writes the logs of each epoch to a CSV file: "epoch", from 0, then the names in order.

    Parameters
    ----------
    filename : path-like
    separator : str
    append : bool
        Go on in a file that is there, instead of replacing it.
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

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Empty the file, unless it is gone on with."""
        if not self.append:
            self.filename.write_text("")
        self._names = None

    def get_state(self) -> dict[str, Any]:
        """Return the columns, and how long the file is."""
        size = self.filename.stat().st_size if self.filename.exists() else 0
        return {"_names": self._names, "size": size if self.append else None}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the columns; cut lines off that were written after the state was."""
        self._names = state["_names"]
        if self.append and state["size"] is not None and self.filename.exists():
            os.truncate(self.filename, min(state["size"], self.filename.stat().st_size))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a line; "NA" where the logs of a later epoch lack a name of the first."""
        values: dict[str, Any] = dict(logs or {})
        with self.filename.open("a", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self._names is None:
                self._names = sorted(values)
                if file.tell() == 0:
                    writer.writerow(["epoch", *self._names])
            writer.writerow([epoch, *(values.get(name, "NA") for name in self._names)])
