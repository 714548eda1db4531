"""Callbacks that change rates or write files: checkpoints, CSV, TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import callbacks, utils
from fusednn.callbacks import (
    CSVLogger,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
)
from fusednn.layers import BatchNormalization, Dense, Dropout, Input
from fusednn.models import Sequential, load_model
from fusednn.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 5)).astype(np.float32)
Y = RNG.standard_normal((60, 2)).astype(np.float32)
DATA: dict[str, Any] = {"x": X, "y": Y, "batch_size": 16, "verbose": 0}


def compiled(optimizer: Any = None) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential(
        [Input((5,)), Dense(6), BatchNormalization(), Dropout(0.2, seed=3), Dropout(0.1), Dense(2)]
    )
    model.compile(optimizer or Adam(0.01), "mse")
    return model


class Scripted(callbacks.Callback):
    """Puts given values of "val_loss" into the logs."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values
        self.rates: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = self.values[epoch]
        self.rates.append(self.model.optimizer.learning_rate)


# ---- rates


def test_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    model = compiled(SGD(0.1))
    halved = LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate, verbose=1)
    history = model.fit(**DATA, epochs=3, callbacks=[halved]).history
    assert history["learning_rate"] == [0.1, 0.05, 0.025]
    assert (
        "Epoch 3: LearningRateScheduler setting learning rate to 0.025" in capsys.readouterr().out
    )
    history = model.fit(**DATA, epochs=2, callbacks=[LearningRateScheduler(lambda e: 1e-3 + e)])
    assert history.history["learning_rate"] == [1e-3, 1.001]
    with pytest.raises(TypeError, match="`schedule` must be a function"):
        LearningRateScheduler(0.1)
    with pytest.raises(ValueError, match="`schedule's value` must be a finite number >= 0"):
        model.fit(**DATA, callbacks=[LearningRateScheduler(lambda e: -1.0)])


def test_plateau() -> None:
    script = Scripted([1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4])
    plateau = ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1, min_lr=0.03)
    model = compiled(SGD(0.1))
    history = model.fit(**DATA, epochs=9, callbacks=[script, plateau]).history
    assert script.rates == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03, 0.03]
    assert history["learning_rate"] == script.rates
    with pytest.raises(ValueError, match=r"`factor` must be in \[0, 1\)"):
        ReduceLROnPlateau(factor=1.0)
    with pytest.warns(UserWarning, match="ReduceLROnPlateau monitors 'val_loss', which the logs"):
        model.fit(**DATA, callbacks=[ReduceLROnPlateau()])


@pytest.mark.parametrize(
    ("cooldown", "halvings"),
    [(0, [0, 0, 1, 2, 3, 4]), (2, [0, 0, 1, 1, 2, 2]), (3, [0, 0, 1, 1, 1, 2])],
)
def test_cooldown(cooldown: int, halvings: list[int]) -> None:
    script = Scripted([1.0] * 6)
    plateau = ReduceLROnPlateau(factor=0.5, patience=1, cooldown=cooldown)
    compiled(SGD(0.1)).fit(**DATA, epochs=6, callbacks=[script, plateau])
    assert script.rates == [0.1 * 0.5**n for n in halvings]


# ---- files


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    model = compiled()
    history = model.fit(**DATA, epochs=2, validation_split=0.2, callbacks=[CSVLogger(path)]).history
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["epoch", "loss", "val_loss"]
    assert [float(row["loss"]) for row in rows] == history["loss"]
    model.fit(
        **DATA,
        epochs=3,
        initial_epoch=2,
        validation_split=0.2,
        callbacks=[CSVLogger(path, append=True)],
    )
    assert [row["epoch"] for row in csv.DictReader(path.read_text().splitlines())] == [
        "0",
        "1",
        "2",
    ]
    model.fit(**DATA, callbacks=[CSVLogger(path, separator=";")])
    assert path.read_text().startswith("epoch;loss\n")
    with pytest.raises(ValueError, match="`separator` must be one character"):
        CSVLogger(path, separator="")


def test_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py", reason="Keras' files are HDF5 files")
    model = compiled()
    every = ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.2f}.keras", verbose=1)
    script = Scripted([0.5, 0.25, 0.75])
    best = ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    weights = ModelCheckpoint(tmp_path / "w.weights.h5", save_weights_only=True, save_freq=5)
    seen: list[list[np.ndarray]] = []
    keep = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(model.get_weights()))
    model.fit(**DATA, epochs=3, callbacks=[script, every, best, weights, keep])
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [
        "01-0.50.keras",
        "02-0.25.keras",
        "03-0.75.keras",
        "best.keras",
        "w.weights.h5",
    ]
    for a, b in zip(load_model(tmp_path / "best.keras").get_weights(), seen[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert "Epoch 2: saving model to" in capsys.readouterr().out
    threshold = ModelCheckpoint(
        tmp_path / "never.keras", save_best_only=True, initial_value_threshold=0.1
    )
    model.fit(**DATA, epochs=3, callbacks=[script, threshold])
    assert not (tmp_path / "never.keras").exists()
    inside = ModelCheckpoint(tmp_path / "a" / "b" / "{epoch}.keras")
    model.fit(**DATA, callbacks=[inside])
    assert (tmp_path / "a" / "b" / "1.keras").exists()


def test_refusals_of_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`filepath` must end with .keras or .h5"):
        ModelCheckpoint(tmp_path / "m")
    with pytest.raises(ValueError, match=r"`filepath` must end with .weights.h5"):
        ModelCheckpoint(tmp_path / "m.keras", save_weights_only=True)
    with pytest.raises(ValueError, match="`backup_dir` must name a folder"):
        callbacks.BackupAndRestore("")
    with pytest.raises(TypeError, match="`save_freq` must be an integer"):
        ModelCheckpoint(tmp_path / "m.keras", save_freq="batch")
    with pytest.raises(ValueError, match="`mode` must be"):
        ModelCheckpoint(tmp_path / "m.keras", mode="best")
    pytest.importorskip("h5py", reason="Keras' files are HDF5 files")
    with pytest.raises(KeyError, match="`filepath` names 'val_acc'"):
        compiled().fit(**DATA, callbacks=[ModelCheckpoint(tmp_path / "{val_acc}.keras")])


def test_refusals_of_tensorboard() -> None:
    for name in ("write_images", "profile_batch", "embeddings_freq", "embeddings_metadata"):
        with pytest.raises(ValueError, match=f"`{name}` must not be given: it needs TensorFlow"):
            TensorBoard(**{name: 1})
    with pytest.raises(ValueError, match="`histogram_freq` must be at least 0"):
        TensorBoard(histogram_freq=-1)
    TensorBoard(write_graph=False)
    with pytest.raises(TypeError, match="`update_freq` must be an integer"):
        TensorBoard(update_freq="step")
