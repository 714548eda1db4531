"""Logs that the program TensorBoard draws."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from fusednn.callbacks.callback import Callback, Logs
from fusednn.models.data import check_count


class TensorBoard(Callback):
    """Writes scalars for TensorBoard, through the package tensorboard; no TensorFlow is needed.

    Training's logs go to the folder ``train`` below `log_dir`, those of validation to
    ``validation``, under the names of Keras: ``epoch_loss``, and ``batch_loss`` if asked for.

    Parameters
    ----------
    log_dir : path-like
    update_freq : "epoch", "batch" or int
        Write after each epoch; besides after each batch, or every so many.
    histogram_freq : int
        Must be 0.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        update_freq: str | int = "epoch",
    ) -> None:
        super().__init__()
        if histogram_freq != 0:
            raise ValueError(
                "`histogram_freq` must be 0: histograms are not supported. "
                f"Received: histogram_freq={histogram_freq}"
            )
        self.log_dir = Path(log_dir)
        self.update_freq = 1 if update_freq == "batch" else update_freq
        if self.update_freq != "epoch":
            check_count("update_freq", self.update_freq)
        self._writers: dict[str, Any] = {}
        self._batches = 0

    def _write(self, part: str, scalars: dict[str, float], step: int) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise ImportError("`TensorBoard` needs the package tensorboard: install it.") from None
        if part not in self._writers:
            self._writers[part] = EventFileWriter(str(self.log_dir / part))
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._writers[part].add_event(
            Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        )

    def get_state(self) -> dict[str, Any]:
        """Return the number of batches."""
        return {"_batches": self._batches}

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Write the running means, if asked for."""
        if self.update_freq == "epoch":
            return
        self._batches += 1
        if self._batches % int(self.update_freq) == 0:
            scalars = {f"batch_{name}": value for name, value in (logs or {}).items()}
            self._write("train", scalars, self._batches)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch's logs, and the learning rate."""
        values = dict(logs or {})
        if self.model.optimizer is not None:
            values.setdefault("learning_rate", self.model.optimizer.learning_rate)
        tested = {n.removeprefix("val_"): v for n, v in values.items() if n.startswith("val_")}
        trained = {n: v for n, v in values.items() if not n.startswith("val_")}
        for part, scalars in (("train", trained), ("validation", tested)):
            if scalars:
                self._write(part, {f"epoch_{n}": v for n, v in scalars.items()}, epoch)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
