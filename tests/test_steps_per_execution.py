"""Callbacks that are called once for several batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import callbacks
from fusednn.layers import Dense, Input
from fusednn.models import Sequential, load_model
from fusednn.utils import set_random_seed

X = np.random.default_rng(0).standard_normal((70, 3)).astype(np.float32)
Y = X[:, :1] * 2


def model_of(**options: Any) -> Sequential:
    set_random_seed(0)
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse", **options)
    return model


class Calls(callbacks.Callback):
    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []
        self.stop = stop

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("begin", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("end", batch))
        assert "loss" in logs
        self.model.stop_training = batch == self.stop

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("begin test", batch))

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("end test", batch))

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("begin predict", batch))

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("end predict", batch))


def expected(kind: str) -> list[tuple[str, int]]:
    places = [("begin", 0), ("end", 2), ("begin", 3), ("end", 5), ("begin", 6), ("end", 6)]
    return [(f"{place}{kind}", batch) for place, batch in places]


def test_callbacks_are_called_for_several_batches_and_the_weights_are_the_same() -> None:
    calls = Calls()
    several = model_of(steps_per_execution=3)
    history = several.fit(X, Y, batch_size=10, verbose=0, callbacks=[calls])
    assert calls.seen == expected("")
    plain = model_of()
    assert plain.fit(X, Y, batch_size=10, verbose=0).history == history.history
    np.testing.assert_array_equal(plain.get_weights()[0], several.get_weights()[0])
    calls = Calls()
    loss = several.evaluate(X, Y, batch_size=10, verbose=0, callbacks=[calls])
    assert loss == plain.evaluate(X, Y, batch_size=10, verbose=0)
    assert calls.seen == expected(" test")
    calls = Calls()
    several.predict(X, batch_size=10, verbose=0, callbacks=[calls])
    assert calls.seen == expected(" predict")


def test_training_stops_after_several_batches() -> None:
    calls = Calls(stop=5)
    model_of(steps_per_execution=3).fit(X, Y, batch_size=10, verbose=0, callbacks=[calls])
    assert calls.seen == expected("")[:4]


def test_a_file_after_so_many_batches(tmp_path: Path) -> None:
    """Of batches 2, 5 and 6, and 2, 5, 6 again: 4 batches are full at 5, and 4 more at 2."""
    saved: list[int] = []
    checkpoint = callbacks.ModelCheckpoint(tmp_path / "m.keras", save_freq=4)
    kept = checkpoint._save
    checkpoint._save = lambda logs: (saved.append(checkpoint._seen), kept(logs))  # type: ignore
    model = model_of(steps_per_execution=3)
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[checkpoint])
    assert saved == [6, 3, 7]


def test_a_run_goes_on_between_executions(tmp_path: Path) -> None:
    whole = model_of(steps_per_execution=2)
    whole.fit(X, Y, batch_size=10, epochs=2, verbose=0)
    model = model_of(steps_per_execution=2)

    def halt(batch: int, logs: Any) -> None:
        if batch == 5:
            raise KeyboardInterrupt

    backup = callbacks.BackupAndRestore(tmp_path, save_freq=3)
    halting = callbacks.LambdaCallback(on_train_batch_end=halt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[backup, halting])
    model = model_of(steps_per_execution=2)
    backup = callbacks.BackupAndRestore(tmp_path, save_freq=3)
    calls = Calls()
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[backup, calls])
    assert calls.seen[0] == ("begin", 4)
    np.testing.assert_array_equal(whole.get_weights()[0], model.get_weights()[0])


def test_the_bar_counts_batches(capsys: pytest.CaptureFixture[str]) -> None:
    model_of(steps_per_execution=3).fit(X, Y, batch_size=10, verbose=1)
    assert "7/7" in capsys.readouterr().err


def test_files_keep_it(tmp_path: Path) -> None:
    model_of(steps_per_execution=3).save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").steps_per_execution == 3
