"""What TensorBoard's own reader finds in the files of the callback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusednn.callbacks import TensorBoard
from fusednn.layers import Dense, Input
from fusednn.metrics import F1Score
from fusednn.models import Sequential

reader = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="reads the files"
)


def test_scalars(tmp_path: Path) -> None:
    model = Sequential([Input((3,)), Dense(2)])
    model.compile("adam", "mse")
    x, y = np.ones((20, 3)), np.zeros((20, 2))
    board = TensorBoard(tmp_path, update_freq=2)
    history = model.fit(
        x, y, batch_size=5, epochs=3, verbose=0, validation_data=(x, y), callbacks=[board]
    ).history

    def scalars(part: str, tag: str) -> tuple[list[int], list[float]]:
        events = reader.EventAccumulator(str(tmp_path / part))
        events.Reload()
        return tuple(zip(*((e.step, e.value) for e in events.Scalars(tag)), strict=True))

    for part, tag, name in (
        ("train", "epoch_loss", "loss"),
        ("validation", "epoch_loss", "val_loss"),
    ):
        steps, values = scalars(part, tag)
        assert steps == (0, 1, 2)
        np.testing.assert_allclose(values, history[name], rtol=1e-6)
    assert scalars("train", "epoch_learning_rate")[1] == pytest.approx((0.001,) * 3)
    assert scalars("train", "batch_loss")[0] == (2, 4, 6, 8, 10, 12)


def test_histograms_and_rates(tmp_path: Path) -> None:
    model = Sequential([Input((3,)), Dense(2, name="only")])
    model.compile("sgd", "mse")
    board = TensorBoard(
        tmp_path, histogram_freq=2, write_steps_per_second=True, update_freq="batch"
    )
    x = np.ones((20, 3))
    model.fit(x, np.zeros((20, 2)), batch_size=5, epochs=3, verbose=0, callbacks=[board])
    all_of_them = {reader.HISTOGRAMS: 0}  # it keeps one of each name by default
    events = reader.EventAccumulator(str(tmp_path / "train"), all_of_them)
    events.Reload()
    assert set(events.Tags()["histograms"]) == {"only/kernel/histogram", "only/bias/histogram"}
    assert [e.step for e in events.Histograms("only/kernel/histogram")] == [0, 2]
    last = events.Histograms("only/kernel/histogram")[-1].histogram_value
    kernel = model.layers[0].weights[0].numpy()
    assert last.num == sum(last.bucket) == 6
    assert (last.min, last.max) == pytest.approx((kernel.min(), kernel.max()))
    assert last.sum == pytest.approx(kernel.sum(dtype=np.float64), rel=1e-6)
    assert all(e.value > 0 for e in events.Scalars("epoch_steps_per_second"))
    assert len(events.Scalars("batch_steps_per_second")) == 12


def test_a_scalar_for_each_class(tmp_path: Path) -> None:
    model = Sequential([Input((3,)), Dense(2, "softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=[F1Score()])
    x, y = np.eye(3)[np.arange(20) % 3], np.eye(2)[np.arange(20) % 2]
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[TensorBoard(tmp_path)]).history
    events = reader.EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    for i in range(2):
        found = [event.value for event in events.Scalars(f"epoch_f1_score/{i}")]
        np.testing.assert_allclose(found, [value[i] for value in history["f1_score"]], rtol=1e-6)
