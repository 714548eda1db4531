"""Data sets that shuffle: the same orders from the same seed, and after a process was killed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import callbacks, utils
from fusednn.data import Dataset
from fusednn.layers import BatchNormalization, Dense, Dropout, Input, LeakyReLU
from fusednn.models import Sequential
from fusednn.optimizers import Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype("float32")
Y = RNG.standard_normal((50, 2)).astype("float32")
SIZE = 16


def regressor() -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((6,)), Dense(4), BatchNormalization(), LeakyReLU(), Dense(2)])
    model.compile(Adam(0.01), "mse", metrics=["mae"])
    return model


def same_bits(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def shuffled(seed: int | None) -> Dataset:
    return Dataset.from_tensor_slices((X, Y)).shuffle(20, seed=seed).batch(SIZE).prefetch(2)


@pytest.mark.parametrize("seed", [None, 3])
def test_training_repeats(seed: int | None) -> None:
    first, again = regressor(), regressor()
    histories = []
    for model in (first, again):
        utils.set_random_seed(9)
        histories.append(model.fit(shuffled(seed), epochs=3, verbose=0).history)
    assert histories[0] == histories[1]
    assert same_bits(first.get_weights(), again.get_weights())


class KilledError(Exception):
    pass


class Kill(callbacks.Callback):
    """Ends the second epoch in its middle."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == (1, 1):
            raise KilledError


@pytest.mark.parametrize("seed", [None, 3])
def test_training_goes_on_with_the_same_orders(tmp_path: Path, seed: int | None) -> None:
    def model_with_dropout() -> Sequential:
        utils.set_random_seed(1)
        model = Sequential([Input((6,)), Dense(4), Dropout(0.3), Dense(2)])
        model.compile(Adam(0.01), "mse")
        return model

    whole = model_with_dropout()
    whole.fit(shuffled(seed), epochs=4, verbose=0)
    backup = callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KilledError):
        model_with_dropout().fit(shuffled(seed), epochs=4, verbose=0, callbacks=[backup, Kill()])
    resumed = model_with_dropout()
    utils.set_random_seed(1234)
    history = resumed.fit(shuffled(seed), epochs=4, verbose=0, callbacks=[backup])
    assert history.epoch == [0, 1, 2, 3]
    assert same_bits(resumed.get_weights(), whole.get_weights())


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("save_freq", ["epoch", 1])
@pytest.mark.parametrize("steps", [2, 3, 4])
@pytest.mark.parametrize("seed", [None, 3])
def test_training_goes_on_within_a_pass(
    tmp_path: Path, seed: int | None, steps: int, save_freq: Any
) -> None:
    """Epochs that are no passes, which have seven batches each."""

    def fit(callback: list[callbacks.Callback]) -> Sequential:
        model = regressor()
        data = Dataset.from_tensor_slices((X, Y)).shuffle(20, seed=seed).repeat(2).batch(SIZE)
        model.fit(data, epochs=4, steps_per_epoch=steps, verbose=0, callbacks=callback)
        return model

    whole = fit([])
    backup = callbacks.BackupAndRestore(tmp_path, save_freq=save_freq)
    with pytest.raises(KilledError):
        fit([backup, Kill()])
    assert same_bits(fit([backup]).get_weights(), whole.get_weights())


def test_threads_end_with_fit() -> None:
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = True

    def alive() -> bool:
        return any(t.name == "fusednn prefetch" for t in threading.enumerate())

    data = Dataset.from_tensor_slices((X, Y)).repeat().batch(4).prefetch(2)
    regressor().fit(data, steps_per_epoch=5, verbose=0, callbacks=[Stop()])
    assert not alive()
    with pytest.raises(KilledError):
        regressor().fit(data, epochs=2, steps_per_epoch=5, verbose=0, callbacks=[Kill()])
    assert not alive()
