"""Training that survives the end of its process."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fusednn import utils
from fusednn.callbacks.callback import Callback, Logs
from fusednn.ops import QuantizedState
from fusednn.saving.atomic import replacing

Array = np.ndarray[Any, np.dtype[Any]]


class BackupAndRestore(Callback):
    """Writes all that training depends on after each epoch; `fit` then goes on from there.

    Where `fit` is called again with the same arguments after its process ended, it starts after
    the last whole epoch, with the same bits as a run without interruption: weights, the optimizer's
    states, step and rate, and the random generators of the package and of layers are restored. The
    file is removed at the end of training.

    Parameters
    ----------
    backup_dir : path-like
        A folder for this training alone; made if need be.
    save_freq : "epoch"
        Nothing else is supported.
    delete_checkpoint : bool
        Whether to remove the file at the end.

    Notes
    -----
    What other callbacks remember is not restored, nor, with `steps_per_epoch`, the place in the
    data. Each epoch draws a new order, from the restored generator. A file is replaced as a whole:
    a crash leaves the old one. Nothing in it is executed.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if save_freq != "epoch":
            raise ValueError(
                "`save_freq` must be 'epoch': others are not supported. "
                f"Received: save_freq={save_freq!r}"
            )
        self.backup_dir = Path(backup_dir)
        self.delete_checkpoint = bool(delete_checkpoint)

    @property
    def path(self) -> Path:
        """The file."""
        return self.backup_dir / "training.npz"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Restore what a file holds, and have `fit` start after its epoch."""
        if self.path.exists():
            self._restore()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the file."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        arrays = {f"weight/{i}": v.numpy() for i, v in enumerate(self.model.weights)}
        for name, array in self._optimizer_arrays().items():
            arrays[f"optimizer/{name}"] = _of_numpy(array)
        about = {
            "epoch": epoch + 1,
            "iterations": optimizer.iterations,
            "learning_rate": None if optimizer.follows_schedule else optimizer.learning_rate,
            "generators": [g.bit_generator.state for g in self._generators()],
        }
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove the file."""
        if self.delete_checkpoint:
            self.path.unlink(missing_ok=True)

    def _restore(self) -> None:
        optimizer = self.model.optimizer
        assert optimizer is not None
        try:
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
            about = json.loads(stored.pop("about").tobytes())
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} is damaged: {error}. Remove it to start anew.") from None
        wanted: dict[str, Any] = {
            f"weight/{i}": variable.value for i, variable in enumerate(self.model.weights)
        }
        if any(name.startswith("optimizer/") for name in stored):
            optimizer.build(self.model._training_lists()[1])
            wanted |= {f"optimizer/{n}": a for n, a in self._optimizer_arrays().items()}
        shapes = {name: array.shape for name, array in wanted.items()}
        if shapes != {name: array.shape for name, array in stored.items()}:
            raise ValueError(
                f"{self.path} is of another model or optimizer. Remove it to start anew."
            )
        for variable, i in zip(self.model.weights, range(len(stored)), strict=False):
            variable.assign(stored[f"weight/{i}"])
        for name, array in wanted.items():
            if name.startswith("optimizer/"):
                _write(array, stored[name])
        optimizer.iterations = about["iterations"]
        if about["learning_rate"] is not None:
            optimizer.learning_rate = about["learning_rate"]
        for generator, state in zip(self._generators(), about["generators"], strict=True):
            generator.bit_generator.state = state
        self.model.restored_epoch = about["epoch"]

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
        return arrays

    def _generators(self) -> list[np.random.Generator]:
        own = (getattr(layer, "_generator", None) for layer in self.model._leaves)
        return [utils.random_generator(), *(g for g in own if g is not None)]


def _of_numpy(array: Any) -> Array:
    return np.asarray(array.get() if hasattr(array, "get") else array)  # CuPy's on a GPU


def _write(array: Any, values: Array) -> None:
    if hasattr(array, "set"):
        array.set(values)
    else:
        array[...] = values
