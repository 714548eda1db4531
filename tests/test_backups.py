"""Backups: a training that was killed goes on with the same bits, from wherever it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import callbacks, data, metrics, utils
from fusednn.callbacks import (
    BackupAndRestore,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ReduceLROnPlateau,
)
from fusednn.layers import BatchNormalization, Dense, Dropout, Input
from fusednn.models import Sequential
from fusednn.optimizers import SGD, Adam, schedules

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 5)).astype(np.float32)
Y = RNG.standard_normal((60, 2)).astype(np.float32)
DATA: dict[str, Any] = {"x": X, "y": Y, "batch_size": 16, "verbose": 0}


def compiled(optimizer: Any = None, **options: Any) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential(
        [Input((5,)), Dense(6), BatchNormalization(), Dropout(0.2, seed=3), Dropout(0.1), Dense(2)]
    )
    model.compile(optimizer or Adam(0.01), "mse", **options)
    return model


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "adam": lambda: Adam(0.01, use_ema=True, amsgrad=True),
    "8 bits": lambda: Adam(0.01, quantized_states=True),
    "sgd": lambda: SGD(0.01),
    "schedule": lambda: SGD(schedules.CosineDecay(0.1, 20), momentum=0.9),
}


class Stop(callbacks.Callback):
    """Ends the run by an error within an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.model.optimizer.iterations - 1) // 4 == self.epoch and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_was_interrupted_twice(tmp_path: Path, name: str) -> None:
    def run(*more: callbacks.Callback) -> list[np.ndarray]:
        model = compiled(OPTIMIZERS[name]())
        model.fit(**DATA, epochs=5, callbacks=[BackupAndRestore(tmp_path / "b"), *more])
        return model.get_weights()

    expected = run()
    assert not (tmp_path / "b" / "training.npz").exists()
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            run(Stop(epoch))
    for a, b in zip(expected, run(), strict=True):
        np.testing.assert_array_equal(a, b)


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_backups import *
kill = callbacks.LambdaCallback(
    on_train_batch_end=lambda b, logs: model.optimizer.iterations == {steps}
    and os.kill(os.getpid(), signal.SIGKILL)
)
model = compiled()
model.fit(**DATA, epochs=4, callbacks=[BackupAndRestore({folder!r}), kill])
np.savez({result!r}, *model.get_weights())
"""


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    def run(steps: int, name: str) -> int:
        script = SCRIPT.format(
            tests=str(Path(__file__).parent),
            steps=steps,
            folder=str(tmp_path / name),
            result=str(tmp_path / f"{name}.npz"),
        )
        return subprocess.run([sys.executable, "-c", script], check=False).returncode

    assert run(-1, "whole") == 0
    assert run(10, "killed") == -9
    assert run(-1, "killed") == 0
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "killed.npz") as killed:
        for name in whole.files:
            np.testing.assert_array_equal(whole[name], killed[name])


def test_backups_of_something_else(tmp_path: Path) -> None:
    backup = BackupAndRestore(tmp_path, delete_checkpoint=False)
    compiled().fit(**DATA, callbacks=[backup])
    other = Sequential([Input((5,)), Dense(2)])
    other.compile("adam", "mse")
    before = other.get_weights()
    with pytest.raises(ValueError, match="is of another model or optimizer"):
        other.fit(**DATA, callbacks=[backup])
    np.testing.assert_array_equal(before[0], other.get_weights()[0])
    data = backup.path.read_bytes()
    for spoilt in (b"nonsense", data[: len(data) // 2]):
        backup.path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=r"is damaged: .* Remove it to start anew"):
            compiled().fit(**DATA, callbacks=[backup])
    with pytest.raises(TypeError, match="`save_freq` must be an integer"):
        BackupAndRestore(tmp_path, save_freq="batch")
    with pytest.raises(ValueError, match="`save_freq` must be at least 1"):
        BackupAndRestore(tmp_path, save_freq=0)


# ---- from any batch, with all that others remember


class Killed(callbacks.Callback):
    """Ends the run by an error after so many steps in all, or at the end of an epoch."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.model.optimizer.iterations == self.steps:
            raise KeyboardInterrupt


class Noted(callbacks.Callback):
    """A callback of the user, whose memory counts."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[str, Any] = {"losses": [], "batches": np.zeros(2)}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.sums["losses"].append(logs["loss"])
        self.sums["batches"] += batch

    def get_state(self) -> dict[str, Any]:
        return {"sums": self.sums}


class Sequence(utils.PyDataset):
    def __init__(self) -> None:
        super().__init__()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[index * 15 : index * 15 + 15], Y[index * 15 : index * 15 + 15]


def generator() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(5)
    while True:
        rows = rng.permutation(60)[:10]
        yield X[rows], Y[rows]


SOURCES: dict[str, Callable[[], dict[str, Any]]] = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": 16, "validation_split": 0.2},
    "batches in order": lambda: {"x": X, "y": Y, "batch_size": 16, "shuffle": "batch"},
    "steps": lambda: {"x": X, "y": Y, "batch_size": 16, "steps_per_epoch": 3},
    "many steps": lambda: {"x": Sequence(), "steps_per_epoch": 3},
    "sequence": lambda: {"x": Sequence()},
    "generator": lambda: {"x": generator(), "steps_per_epoch": 4},
    "data set": lambda: {
        "x": data.Dataset.from_tensor_slices((X, Y)).shuffle(60, seed=2).batch(16)
    },
    "data set, steps": lambda: {
        "x": data.Dataset.from_tensor_slices((X, Y)).shuffle(60, seed=2).batch(16).repeat(),
        "steps_per_epoch": 3,
    },
}


def run(
    source: str, folder: Path, frequency: int | str, kill: int = -1
) -> tuple[list[np.ndarray], dict[str, list[float]], dict[str, Any]]:
    model = compiled(SGD(0.02, momentum=0.9), metrics=["mae", metrics.RootMeanSquaredError()])
    noted = Noted()
    others: list[callbacks.Callback] = [
        BackupAndRestore(folder, save_freq=frequency),
        LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.2),
        EarlyStopping("loss", patience=3, min_delta=0.5, restore_best_weights=True),
        CSVLogger(folder.parent / f"{folder.name}.csv", append=True),
        CSVLogger(folder.parent / f"{folder.name}.new.csv"),
        noted,
        Killed(kill),
    ]
    history = model.fit(**SOURCES[source](), epochs=5, verbose=0, callbacks=others)
    return model.get_weights(), history.history, noted.sums


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("frequency", ["epoch", 1, 3])
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_resumed_from_anywhere(tmp_path: Path, source: str, frequency: int | str) -> None:
    expected = run(source, tmp_path / "whole", frequency)
    steps = len(expected[2]["losses"])
    assert steps > 9
    for kill in range(1, steps, 3 if frequency == "epoch" else 2):
        folder = tmp_path / f"killed {kill}"
        with pytest.raises(KeyboardInterrupt):
            run(source, folder, frequency, kill)
        weights, history, sums = run(source, folder, frequency)
        for a, b in zip(expected[0], weights, strict=True):
            np.testing.assert_array_equal(a, b)
        assert history == expected[1]
        assert sums["losses"] == expected[2]["losses"]
        np.testing.assert_array_equal(sums["batches"], expected[2]["batches"])
        for ending in ("csv", "new.csv"):
            lines = [(tmp_path / f"{name}.{ending}").read_text() for name in ("whole", folder.name)]
            assert lines[0] == lines[1]


class Ended(callbacks.Callback):
    """Ends the run by an error at the end of training."""

    def on_train_end(self, logs: Any = None) -> None:
        raise KeyboardInterrupt


def test_a_training_that_was_to_stop_stays_stopped(tmp_path: Path) -> None:
    def run(*more: callbacks.Callback) -> Sequential:
        model = compiled()
        stop = EarlyStopping("loss", min_delta=10, restore_best_weights=True)
        model.fit(**DATA, epochs=9, callbacks=[*more, stop, BackupAndRestore(tmp_path)])
        return model

    expected = run().get_weights()
    with pytest.raises(KeyboardInterrupt):
        run(Ended())
    again = run()
    assert again.history.epoch == [0, 1]
    for a, b in zip(expected, again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_that_cannot_be_kept_or_given_back(tmp_path: Path) -> None:
    class Odd(Noted):
        def get_state(self) -> dict[str, Any]:
            return {"function": print}

    backup = BackupAndRestore(tmp_path, delete_checkpoint=False)
    with pytest.raises(TypeError, match="What `get_state` returns must hold numbers"):
        compiled().fit(**DATA, callbacks=[backup, Odd()])
    compiled().fit(**DATA, callbacks=[backup, Noted()])
    with pytest.raises(ValueError, match="of a training with a callback Noted, which is missing"):
        compiled().fit(**DATA, callbacks=[backup])


def test_the_file_before_is_taken_where_the_latest_is_damaged(tmp_path: Path) -> None:
    def run(epochs: int, *more: callbacks.Callback) -> Sequential:
        model = compiled()
        backup = BackupAndRestore(tmp_path, double_checkpoint=True, delete_checkpoint=False)
        model.fit(**DATA, epochs=epochs, callbacks=[backup, *more])
        return model

    compiled().fit(**DATA, callbacks=[BackupAndRestore(tmp_path, delete_checkpoint=False)])
    assert not (tmp_path / "previous.npz").exists()
    (tmp_path / "training.npz").unlink()
    expected = run(4).get_weights()
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(4, Stop(3))
    latest = tmp_path / "training.npz"
    latest.write_bytes(latest.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"training.npz is damaged: .* Going on from .*previous"):
        again = run(4)
    assert again.history.epoch == [0, 1, 2, 3]
    for a, b in zip(expected, again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    backup = BackupAndRestore(tmp_path, "epoch", True)
    compiled().fit(**DATA, epochs=4, callbacks=[backup])
    assert list(tmp_path.iterdir()) == []
