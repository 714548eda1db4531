"""Training that survives the end of its process."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fusednn.callbacks.callback import Callback, Logs
from fusednn.callbacks.memory import put_together, taken_apart
from fusednn.callbacks.resumed import Resumed
from fusednn.callbacks.save_frequency import SaveFrequency
from fusednn.devices import device_of, is_cupys
from fusednn.ops import QuantizedState
from fusednn.randomness import random_generator
from fusednn.saving.atomic import replacing
from fusednn.saving.npz_file import names_in, read_arrays
from fusednn.saving.opened import OF_CONTENT

Array = np.ndarray[Any, np.dtype[Any]]


_CONTENT = {
    "batch",
    "callbacks",
    "epoch",
    "feed",
    "generators",
    "iterations",
    "learning_rate",
    "means",
    "stopped",
}


class _Stored(NamedTuple):
    """What a file holds: all that JSON can hold, and arrays by name."""

    about: dict[str, Any]
    arrays: dict[str, Array]


class BackupAndRestore(SaveFrequency, Callback):
    """Writes all that training depends on, again and again; `fit` then goes on from there.

    Where `fit` is called again with the same arguments after its process ended, it starts after
    the last epoch, or batch, of the file, with the same bits as a run without interruption: of
    weights, the optimizer's states, step and rate, the random generators of the package and of
    layers, the place in the data, the running means of loss and metrics, and what other callbacks
    remember (see `Callback.get_state`). The file is removed at the end of training.

    Parameters
    ----------
    backup_dir : path-like
        A folder for this training alone; made if need be.
    save_freq : "epoch" or int
        Write after each epoch, or after so many batches. (Keras then starts the epoch again.)
    double_checkpoint : bool
        Keep the file before the latest, too, and go on from it where the latest is damaged.
    delete_checkpoint : bool
        Whether to remove the file, or both, at the end.

    Notes
    -----
    It is called after all other callbacks of the same `fit`. The batches of an epoch that are done
    already are read again, without training on them, and so are those of a generator, from its
    start. A file is replaced as a whole: a crash leaves the old one. Nothing in it is executed.
    """

    runs_last = True

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not os.fspath(backup_dir):
            raise ValueError("`backup_dir` must name a folder. Received: backup_dir=''")
        self.backup_dir = Path(backup_dir)
        self._set_save_freq(save_freq)
        self.double_checkpoint = bool(double_checkpoint)
        self.delete_checkpoint = bool(delete_checkpoint)
        self._stored: _Stored | None = None
        self._epoch = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self.backup_dir / "training.npz"

    @property
    def previous_path(self) -> Path:
        """The file before, with `double_checkpoint`."""
        return self.backup_dir / "previous.npz"

    # ---- what is restored

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Have `fit` start where a file ends, once it was found to be of this training."""
        self._batches = 0
        self._stored = None
        if self.path.exists():
            self._stored = self._read_one_of_two()
            about = self._stored.about
            self.model.resumed = Resumed(
                about["epoch"], about["batch"], about["feed"], about["stopped"], self._restore
            )

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Within an epoch, undo what other callbacks did at its start for a second time."""
        self._epoch = epoch
        self._seen = 0
        stored, self._stored = self._stored, None
        if stored is not None and stored.about["batch"] and stored.about["epoch"] == epoch:
            self._set(stored)
            self._seen = stored.about["batch"]
            self.model._compiled().set_state(put_together(stored.about["means"], stored.arrays))

    def _restore(self) -> None:
        assert self._stored is not None
        self._set(self._stored)

    def _read_one_of_two(self) -> _Stored:
        try:
            content = _read(self.path)
        except ValueError as error:
            if not (self.double_checkpoint and self.previous_path.exists()):
                raise
            content = _read(self.previous_path)
            warnings.warn(f"{error} Going on from {self.previous_path}.", stacklevel=5)
        return self._fitting(content)

    def _fitting(self, content: _Stored) -> _Stored:
        """Return what was read, once it was found to be of this training."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        about, stored = content
        wanted = {f"weight/{i}": variable.value for i, variable in enumerate(self.model.weights)}
        if any(name.startswith("optimizer/") for name in stored):
            optimizer.build(self.model._training_lists()[1])
            wanted |= {f"optimizer/{n}": a for n, a in self._optimizer_arrays().items()}
        shapes = {
            name: array.shape for name, array in stored.items() if not name.startswith("memory/")
        }
        if shapes != {name: array.shape for name, array in wanted.items()}:
            raise ValueError(
                f"{self.path} is of another model or optimizer. Remove it to start anew."
            )
        self._pairs(about)
        return content

    def _pairs(self, about: dict[str, Any]) -> list[tuple[Callback, Any]]:
        """Return callbacks with what they remembered; of one class in the order of the list."""
        others = list(self.companions)
        pairs: list[tuple[Callback, Any]] = []
        for name, state in about["callbacks"]:
            found = next((c for c in others if type(c).__name__ == name), None)
            if found is None:
                raise ValueError(
                    f"{self.path} is of a training with a callback {name}, which is missing. "
                    "Remove the file to start anew."
                )
            others.remove(found)
            pairs.append((found, state))
        return pairs

    def _set(self, stored: _Stored) -> None:
        optimizer = self.model.optimizer
        assert optimizer is not None
        about, arrays = stored
        for i, variable in enumerate(self.model.weights):
            variable.assign(arrays[f"weight/{i}"])
        for name, array in self._optimizer_arrays().items():
            _write(array, arrays[f"optimizer/{name}"])
        optimizer.calls = about["iterations"]
        if about["learning_rate"] is not None:
            optimizer.learning_rate = about["learning_rate"]
        for generator, state in zip(self._generators(), about["generators"], strict=True):
            generator.bit_generator.state = state
        for callback, state in self._pairs(about):
            callback.set_state(put_together(state, arrays))

    # ---- what is written

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Write the file after so many batches."""
        if self._is_due(batch):
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the file after an epoch."""
        if self.save_freq == "epoch":
            self._save(epoch + 1, 0)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove the file."""
        if self.delete_checkpoint:
            self.path.unlink(missing_ok=True)
            if self.double_checkpoint:
                self.previous_path.unlink(missing_ok=True)

    def _save(self, epoch: int, batch: int) -> None:
        model, optimizer = self.model, self.model.optimizer
        assert optimizer is not None
        arrays = {f"weight/{i}": v.numpy() for i, v in enumerate(model.weights)}
        for name, array in self._optimizer_arrays().items():
            arrays[f"optimizer/{name}"] = _of_numpy(array)
        states = [(type(c).__name__, c.get_state()) for c in self.companions]
        about = {
            "epoch": epoch,
            "batch": batch,
            "feed": model.feed_place,
            "stopped": bool(model.stop_training),
            "iterations": optimizer.calls,
            "learning_rate": None if optimizer.follows_schedule else float(optimizer.learning_rate),
            "generators": [g.bit_generator.state for g in self._generators()],
            "means": taken_apart(model._compiled().get_state(), "memory/means", arrays),
            "callbacks": [
                (name, taken_apart(state, f"memory/{i}", arrays))
                for i, (name, state) in enumerate(states)
                if state
            ],
        }
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        if self.double_checkpoint and self.path.exists():
            with replacing(self.previous_path) as temporary:
                shutil.copyfile(self.path, temporary)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def _optimizer_arrays(self) -> dict[str, Any]:
        optimizer = self.model.optimizer
        assert optimizer is not None
        arrays: dict[str, Any] = {}
        for name, states in optimizer.states.items():
            for i, state in enumerate(states):
                if isinstance(state, QuantizedState):
                    arrays[f"{name}/{i}/codes"] = state.codes
                    arrays[f"{name}/{i}/scales"] = state.scales
                else:
                    arrays[f"{name}/{i}"] = state
        for i, average in enumerate(optimizer.averages or ()):
            arrays[f"average/{i}"] = average
        for i, total in enumerate(optimizer.sums or ()):
            arrays[f"sum/{i}"] = total
        return arrays

    def _generators(self) -> list[np.random.Generator]:
        own = (getattr(layer, "_generator", None) for layer in self.model._leaves)
        return [random_generator(), *(g for g in own if g is not None)]


def _read(path: Path) -> _Stored:
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as file:
            stored = read_arrays(file, names_in(file))
        about = json.loads(stored.pop("about").tobytes())
        if not set(about) >= _CONTENT:
            raise ValueError("it lacks some of what a backup holds")
    except (ValueError, zipfile.BadZipFile, *OF_CONTENT) as error:
        raise ValueError(f"{path} is damaged: {error}. Remove it to start anew.") from None
    return _Stored(about, stored)


def _of_numpy(array: Any) -> Array:
    # On a GPU models' work has a stream of its own, which may be at it still.
    return device_of(array).read(array) if is_cupys(array) else np.asarray(array)


def _write(array: Any, values: Array) -> None:
    if is_cupys(array):
        device_of(array).write(array, values)
    else:
        array[...] = values
