"""Averages of weights in the model while it is tested, and its own weights while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import callbacks, utils
from fusednn.callbacks import BackupAndRestore, EarlyStopping, ModelCheckpoint, SwapEMAWeights
from fusednn.layers import BatchNormalization, Dense, Input
from fusednn.models import Sequential, load_model
from fusednn.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 5)).astype(np.float32)
Y = RNG.standard_normal((48, 2)).astype(np.float32)
DATA: dict[str, Any] = {"x": X, "y": Y, "batch_size": 8, "verbose": 0, "shuffle": False}


def compiled(**options: Any) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((5,)), Dense(6), BatchNormalization(), Dense(2)])
    model.compile(Adam(0.05, **{"use_ema": True, "ema_momentum": 0.8, **options}), "mse")
    return model


class Look(callbacks.Callback):
    """Keeps the weights and the averages of the moments that are named."""

    def __init__(self, *moments: str) -> None:
        super().__init__()
        self.weights: dict[str, list[np.ndarray]] = {}
        self.averages: dict[str, list[np.ndarray]] = {}
        for moment in moments:
            setattr(self, moment, lambda *_, moment=moment, **__: self.look(moment))

    def look(self, moment: str) -> None:
        self.weights[moment] = [v.numpy() for v in self.model.trainable_variables]
        self.averages[moment] = [a.copy() for a in self.model.optimizer.averages or ()]


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tested_with_averages_trained_without() -> None:
    plain, swapped = compiled(), compiled()
    before = Look("on_test_begin")
    for model, more in ((plain, []), (swapped, [SwapEMAWeights()])):
        seen = Look("on_test_begin", "on_test_end", "on_epoch_end")
        model.fit(**DATA, epochs=3, validation_data=(X, Y), callbacks=[*more, seen])
        if model is plain:
            before = seen
    assert_same(seen.weights["on_test_begin"], before.averages["on_test_begin"])
    assert_same(seen.averages["on_test_begin"], before.weights["on_test_begin"])
    assert any(
        np.any(a != b)
        for a, b in zip(
            before.weights["on_test_begin"], before.averages["on_test_begin"], strict=True
        )
    )
    assert_same(seen.weights["on_epoch_end"], before.weights["on_epoch_end"])
    assert_same(swapped.get_weights(), plain.get_weights())  # at the end of both the averages


def test_evaluate_and_predict() -> None:
    model = compiled()
    seen: list[list[np.ndarray]] = []

    class Ask(callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            own, averages = model.get_weights(), [a.copy() for a in model.optimizer.averages]
            got = model.predict(X, verbose=0, callbacks=[SwapEMAWeights()])
            loss = model.evaluate(X, Y, verbose=0, callbacks=[SwapEMAWeights()])
            assert_same(model.get_weights(), own)
            assert_same(model.optimizer.averages, averages)
            model.optimizer.swap_averages(True)
            seen.append([got, model.predict(X, verbose=0)])
            assert loss == model.evaluate(X, Y, verbose=0)
            model.optimizer.swap_averages(False)
            assert np.any(model.predict(X, verbose=0) != got)

    model.fit(**DATA, epochs=2, callbacks=[Ask()])
    assert len(seen) == 2
    for got, want in seen:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("early", [False, True])
def test_from_one_epoch_to_the_next(tmp_path: Path, early: bool) -> None:
    """Callbacks later in the list see the averages; training and its end are as without."""
    path = tmp_path / "{epoch}.keras"
    stop = [EarlyStopping("loss", patience=0, mode="max")] if early else []
    seen = Look("on_epoch_end")
    plain = compiled()
    plain.fit(**DATA, epochs=3, callbacks=[seen, *stop])
    model = compiled()
    swap = [SwapEMAWeights(swap_on_epoch=True), ModelCheckpoint(path)]
    model.fit(**DATA, epochs=3, callbacks=[*swap, *stop])
    last = len(list(tmp_path.iterdir()))
    assert last == (2 if early else 3)
    saved = load_model(tmp_path / f"{last}.keras")
    assert_same([v.numpy() for v in saved.trainable_variables], seen.averages["on_epoch_end"])
    assert_same(model.get_weights(), plain.get_weights())
    assert not model.optimizer.swapped


def test_goes_on_from_a_backup(tmp_path: Path) -> None:
    def run(model: Sequential, *more: callbacks.Callback) -> list[np.ndarray]:
        swap = SwapEMAWeights(swap_on_epoch=True)
        model.fit(**DATA, epochs=4, callbacks=[swap, BackupAndRestore(tmp_path), *more])
        return model.get_weights()

    expected = run(compiled())
    end = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: [].pop() if epoch == 2 else 0)
    with pytest.raises(IndexError):
        run(compiled(), end)
    assert_same(run(compiled()), expected)


def test_optimizers_without_averages() -> None:
    model = Sequential([Dense(2, input_dim=5)])
    model.compile(SGD(), "mse")
    with pytest.raises(ValueError, match=r"SwapEMAWeights needs .* `use_ema=True`\. Received"):
        model.fit(**DATA, callbacks=[SwapEMAWeights()])
    before = model.get_weights()
    model.optimizer.swap_averages(True)
    assert_same(model.get_weights(), before)
    fresh = compiled()  # no averages before the first step
    fresh.evaluate(X, Y, verbose=0, callbacks=[SwapEMAWeights()])
