"""The logs of each epoch as lines of a file."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import IO, Any

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
        self._file: IO[str] | None = None
        self._names: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Open the file."""
        self._close()
        self._header = not (
            self.append and self.filename.exists() and self.filename.stat().st_size > 0
        )
        self._file = self.filename.open("a" if self.append else "w", newline="")
        self._names = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a line; "NA" where the logs of a later epoch lack a name of the first."""
        assert self._file is not None
        values: dict[str, Any] = dict(logs or {})
        writer = csv.writer(self._file, delimiter=self.separator)
        if self._names is None:
            self._names = sorted(values)
            if self._header:
                writer.writerow(["epoch", *self._names])
        writer.writerow([epoch, *(values.get(name, "NA") for name in self._names)])
        self._file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
