"""Logs that the program TensorBoard draws."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from fusednn._arguments import check_count
from fusednn.callbacks.callback import Callback, Logs


class TensorBoard(Callback):
    """Writes logs for TensorBoard, through the package tensorboard; no TensorFlow is needed.

    Training's logs go to the folder ``train`` below `log_dir`, those of validation to
    ``validation``, under the names of Keras: ``epoch_loss``, and ``batch_loss`` if asked for. The
    numbers of a metric that has one for each class are ``epoch_f1_score/0`` and so on.

    Parameters
    ----------
    log_dir : path-like
    histogram_freq : int
        Write a histogram of each weight after every so many epochs, the first included; 0: never.
    write_graph : bool
        Without effect: a graph is TensorFlow's own. See `Sequential.summary`.
    write_images : bool
        Must be False, as `embeddings_freq` and `profile_batch` must be 0: they need TensorFlow.
    write_steps_per_second : bool
        Write how many batches a second an epoch took, and those since the latest batch logged.
    update_freq : "epoch", "batch" or int
        Write after each epoch; besides after each batch, or every so many.
    profile_batch, embeddings_freq, embeddings_metadata
        See `write_images`.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("write_images", write_images),
            ("profile_batch", profile_batch),
            ("embeddings_freq", embeddings_freq),
            ("embeddings_metadata", embeddings_metadata),
        ):
            if value:
                raise ValueError(
                    f"`{name}` must not be given: it needs TensorFlow. Received: {name}={value!r}"
                )
        self.log_dir = Path(log_dir)
        self.histogram_freq = check_count("histogram_freq", histogram_freq, minimum=0)
        self.write_graph = bool(write_graph)
        self.write_steps_per_second = bool(write_steps_per_second)
        self.update_freq = 1 if update_freq == "batch" else update_freq
        if self.update_freq != "epoch":
            check_count("update_freq", self.update_freq)
        self._writers: dict[str, Any] = {}
        self._batches = 0
        self._seen = 0  # batches of the epoch
        self._begun = self._epoch_begun = (0, 0.0)

    def _write(self, part: str, scalars: dict[str, Any], step: int) -> None:
        values = []
        for name, value in scalars.items():
            if np.ndim(value):
                values += [(f"{name}/{i}", number) for i, number in enumerate(np.ravel(value))]
            else:
                values.append((name, value))
        self._write_summary(part, [{"tag": n, "simple_value": v} for n, v in values], step)

    def _write_summary(self, part: str, values: list[dict[str, Any]], step: int) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise ImportError("`TensorBoard` needs the package tensorboard: install it.") from None
        if part not in self._writers:
            self._writers[part] = EventFileWriter(str(self.log_dir / part))
        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._writers[part].add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def _rate_since(self, begun: tuple[int, float]) -> float:
        """Return the batches a second since then, a count of batches and a time."""
        batches, at = begun
        return (self._batches - batches) / max(time.perf_counter() - at, 1e-9)

    def get_state(self) -> dict[str, Any]:
        """Return the numbers of batches."""
        return {"_batches": self._batches, "_seen": self._seen}

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Look at the clock."""
        self._seen = 0
        self._begun = self._epoch_begun = (self._batches, time.perf_counter())

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Write the running means, if asked for."""
        before = self._batches
        self._batches += batch + 1 - self._seen  # more than 1 with `steps_per_execution`
        self._seen = batch + 1
        if self.update_freq != "epoch" and _passed(before, self._batches, int(self.update_freq)):
            scalars = {f"batch_{name}": value for name, value in (logs or {}).items()}
            if self.write_steps_per_second:
                scalars["batch_steps_per_second"] = self._rate_since(self._begun)
                self._begun = (self._batches, time.perf_counter())
            self._write("train", scalars, self._batches)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch's logs, and the learning rate."""
        values = dict(logs or {})
        if self.model.optimizer is not None:
            values.setdefault("learning_rate", self.model.optimizer.learning_rate)
        tested = {n.removeprefix("val_"): v for n, v in values.items() if n.startswith("val_")}
        trained = {n: v for n, v in values.items() if not n.startswith("val_")}
        if self.write_steps_per_second:
            trained["steps_per_second"] = self._rate_since(self._epoch_begun)
        for part, scalars in (("train", trained), ("validation", tested)):
            if scalars:
                self._write(part, {f"epoch_{n}": v for n, v in scalars.items()}, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            histograms = [
                {"tag": f"{variable.path}/histogram", "histo": _histogram(variable.numpy())}
                for variable in self.model.weights
            ]
            self._write_summary("train", histograms, epoch)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _passed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in ``(before, now]``."""
    return before // every < now // every


def _histogram(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return what TensorBoard keeps of the finite numbers: counts of 30 parts, sums, extremes."""
    finite = values[np.isfinite(values)].astype(np.float64)
    counts, edges = np.histogram(finite, bins=30)
    return {
        "min": finite.min(initial=np.inf),
        "max": finite.max(initial=-np.inf),
        "num": finite.size,
        "sum": finite.sum(),
        "sum_squares": np.square(finite).sum(),
        "bucket_limit": edges[1:],
        "bucket": counts,
    }
