"""Callbacks: the order of hooks, what their logs hold, and the ones that come with the package."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fusednn import metrics
from fusednn.callbacks import (
    Callback,
    CallbackList,
    EarlyStopping,
    History,
    LambdaCallback,
    ProgbarLogger,
    TerminateOnNaN,
)
from fusednn.callbacks.callback import HOOKS
from fusednn.layers import Dense, Input
from fusednn.models import Sequential
from fusednn.optimizers import SGD

X = np.random.default_rng(0).standard_normal((10, 3)).astype("float32")
Y = X @ np.array([[1.0], [2.0], [3.0]], "float32")


def linear_model(learning_rate: float = 0.05) -> Sequential:
    model = Sequential([Input((3,)), Dense(1, kernel_initializer="zeros")])
    model.compile(SGD(learning_rate), "mse", metrics=["mse"])
    return model


class Recorder(Callback):
    """Writes down every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        for hook in HOOKS:
            setattr(self, hook, self._note(hook))

    def _note(self, hook: str) -> Any:
        def note(*arguments: Any) -> None:
            numbers = [a for a in arguments if isinstance(a, int)]
            logs = next((a for a in arguments if isinstance(a, dict)), {})
            self.calls.append((hook.removeprefix("on_"), *numbers, *sorted(logs)))

        return note


def test_order_of_hooks_and_their_logs() -> None:
    recorder = Recorder()
    linear_model().fit(
        X,
        Y,
        batch_size=5,
        epochs=2,
        verbose=0,
        callbacks=[recorder],
        validation_data=(X[:4], Y[:4]),
    )
    assert recorder.params == {"verbose": 0, "epochs": 2, "steps": 2}
    epoch: list[tuple[Any, ...]] = []
    for batch in range(2):
        epoch += [("train_batch_begin", batch), ("train_batch_end", batch, "loss", "mse")]
    epoch += [("test_begin",), ("test_batch_begin", 0), ("test_batch_end", 0, "loss", "mse")]
    epoch += [("test_end", "loss", "mse")]
    names = ("loss", "mse", "val_loss", "val_mse")
    expected = [("train_begin",)]
    for number in range(2):
        expected += [("epoch_begin", number), *epoch, ("epoch_end", number, *names)]
    assert recorder.calls == [*expected, ("train_end", *names)]


def test_hooks_of_evaluate_and_predict() -> None:
    model, recorder = linear_model(), Recorder()
    model.evaluate(X, Y, verbose=0, callbacks=recorder)
    assert [c[0] for c in recorder.calls] == [
        "test_begin",
        "test_batch_begin",
        "test_batch_end",
        "test_end",
    ]
    recorder.calls.clear()
    model.predict(X, batch_size=5, verbose=0, callbacks=[recorder])
    assert [c[0] for c in recorder.calls] == [
        "predict_begin",
        *["predict_batch_begin", "predict_batch_end"] * 2,
        "predict_end",
    ]


def test_batch_logs_are_running_means_over_samples() -> None:
    losses: list[float] = []
    model = linear_model(0.0)
    model.fit(
        X,
        Y,
        batch_size=4,
        shuffle=False,
        verbose=0,
        callbacks=LambdaCallback(
            on_train_batch_end=lambda batch, logs: losses.append(logs["loss"])
        ),
    )
    squares = Y[:, 0].astype("float64") ** 2
    np.testing.assert_allclose(losses, [squares[:n].mean() for n in (4, 8, 10)], rtol=1e-5)


def test_on_batch_end_is_called_by_training() -> None:
    class Old(Callback):
        batches = 0

        def on_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            assert logs is not None
            assert "loss" in logs
            self.batches += 1

    old = Old()
    linear_model().fit(X, Y, batch_size=5, verbose=0, callbacks=[old])
    assert old.batches == 2


def test_stop_training_ends_after_the_batch() -> None:
    recorder = Recorder()

    def stop(batch: int, logs: dict[str, float]) -> None:
        if batch == 1:
            recorder.model.stop_training = True

    history = linear_model().fit(
        X,
        Y,
        batch_size=2,
        epochs=9,
        verbose=0,
        callbacks=[recorder, LambdaCallback(on_train_batch_end=stop)],
    )
    assert history.epoch == [0]
    assert [c[1] for c in recorder.calls if c[0] == "train_batch_end"] == [0, 1]
    assert [c[0] for c in recorder.calls][-2:] == ["epoch_end", "train_end"]


def test_history() -> None:
    model = linear_model()
    history = model.fit(X, Y, epochs=3, verbose=0, validation_split=0.2)
    assert isinstance(history, History)
    assert model.history is history
    assert history.epoch == [0, 1, 2]
    assert list(history.history) == ["loss", "mse", "val_loss", "val_mse"]
    assert all(len(values) == 3 for values in history.history.values())
    own = History()
    again = model.fit(X, Y, epochs=5, initial_epoch=3, verbose=0, callbacks=[own])
    assert again is own
    assert own.epoch == [3, 4]


# ---- the callbacks that come with the package


def stopped_after(callback: EarlyStopping, values: list[float]) -> int:
    """Number of epochs that run where the monitored quantity takes these values."""
    model = linear_model(0.0)
    feed = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(value=values[epoch]))
    history = model.fit(X, Y, epochs=len(values), verbose=0, callbacks=[feed, callback])
    return len(history.epoch)


@pytest.mark.parametrize(
    ("options", "values", "epochs"),
    [
        ({}, [3, 2, 1, 1, 0], 4),
        ({"patience": 2}, [3, 2, 2, 2, 2, 2], 4),
        ({"patience": 1}, [3, 4, 2, 3, 3], 2),
        ({"patience": 2, "mode": "max"}, [1, 2, 1, 1, 3], 4),
        ({"min_delta": 0.5}, [3, 2, 1.8, 0], 3),
        ({"min_delta": -0.5}, [3, 2, 1.8, 0], 3),
        ({"baseline": 1.0, "patience": 2}, [3, 2, 1.5, 1.4, 1.6, 1.3], 5),
        ({"start_from_epoch": 3}, [1, 2, 3, 4, 5, 6], 5),
        ({}, [3, 2, 1, 0], 4),
    ],
)
def test_early_stopping(options: dict[str, Any], values: list[float], epochs: int) -> None:
    options = {"mode": "min"} | options
    assert stopped_after(EarlyStopping("value", **options), values) == epochs


class Share(metrics.Mean):
    """A metric of the user's, as one is written for Keras."""

    def __init__(self, direction: str) -> None:
        super().__init__("share")
        self._direction = direction

    def update_state(self, *values: Any, sample_weight: Any = None) -> None:
        super().update_state(np.zeros(1))


@pytest.mark.parametrize(
    ("monitor", "given", "mode"),
    [
        ("loss", [], "min"),
        ("val_loss", [], "min"),
        ("val_mae", ["mae"], "min"),
        ("val_precision", [metrics.Precision()], "max"),
        ("hits", [metrics.Recall(name="hits")], "max"),
        ("val_inaccuracy", [metrics.MeanSquaredError("inaccuracy")], "min"),
        ("weighted_auc", [metrics.AUC(), metrics.AUC()], "max"),
        ("share", [Share("up")], "max"),
        ("share", [Share("down")], "min"),
    ],
)
def test_metrics_say_what_is_better(monitor: str, given: list[Any], mode: str) -> None:
    model = Sequential([Dense(1, activation="sigmoid")])
    model.compile("sgd", "mse", metrics=given[:1], weighted_metrics=given[1:])
    stopping = EarlyStopping(monitor)
    x, y = np.ones((8, 2), np.float32), np.arange(8.0)[:, None] % 2
    model.fit(x, y, validation_split=0.25, verbose=0, callbacks=[stopping])
    assert stopping.mode == mode


@pytest.mark.parametrize(
    "given", [metrics.TruePositives(name="n"), metrics.MeanMetricWrapper(np.subtract, name="n")]
)
def test_where_nothing_says_what_is_better(given: metrics.Metric) -> None:
    model = Sequential([Dense(1, activation="sigmoid")])
    model.compile("sgd", "mse", metrics=[given])
    data = np.ones((4, 2), np.float32), np.ones((4, 1))
    message = "`mode` of EarlyStopping must be 'min' or 'max': no metric .* 'val_n' is better"
    with pytest.raises(ValueError, match=message):
        model.fit(*data, validation_split=0.5, verbose=0, callbacks=[EarlyStopping("val_n")])
    model.fit(*data, verbose=0, callbacks=[EarlyStopping("n", mode="max")])


def test_modes_of_monitors() -> None:
    with pytest.raises(
        ValueError, match=r"`mode` must be 'auto', 'min' or 'max'\. Received: mode='up'"
    ):
        EarlyStopping(mode="up")
    with pytest.raises(ValueError, match="`patience` must be"):
        EarlyStopping(patience=-1)


def test_early_stopping_restores_the_best_weights(capsys: pytest.CaptureFixture[str]) -> None:
    model = linear_model(0.05)
    kept: list[np.ndarray] = []
    values = [3.0, 1.0, 2.0, 2.0, 2.0]

    def after_epoch(epoch: int, logs: dict[str, float]) -> None:
        logs["value"] = values[epoch]
        kept.append(model.weights[0].numpy())

    stopping = EarlyStopping("value", patience=2, mode="min", restore_best_weights=True, verbose=1)
    model.fit(
        X, Y, epochs=5, verbose=0, callbacks=[LambdaCallback(on_epoch_end=after_epoch), stopping]
    )
    assert len(kept) == 4
    assert (stopping.stopped_epoch, stopping.best_epoch, stopping.best) == (3, 1, 1.0)
    np.testing.assert_array_equal(model.weights[0], kept[1])
    out = capsys.readouterr().out
    assert "Epoch 4: early stopping" in out
    assert "best epoch: 2" in out


def test_early_stopping_warns_where_there_is_nothing_to_monitor() -> None:
    with pytest.warns(UserWarning, match=r"EarlyStopping monitors 'val_loss'.*loss, mse"):
        linear_model().fit(X, Y, verbose=0, callbacks=[EarlyStopping()])


def test_terminate_on_nan_stops_and_keeps_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    model = linear_model(1e-3)
    x = X.copy()
    x[7, 1] = np.nan
    kept: list[np.ndarray] = []
    watch = LambdaCallback(
        on_train_batch_begin=lambda batch, logs: kept.append(model.weights[0].numpy())
    )
    history = model.fit(
        x, Y, batch_size=2, epochs=3, shuffle=False, verbose=0, callbacks=[watch, TerminateOnNaN()]
    )
    assert len(kept) == 4  # rows 6 and 7 are batch 3
    assert history.epoch == [0]
    assert math.isnan(history.history["loss"][0])
    np.testing.assert_array_equal(model.weights[0], kept[3])
    assert "Batch 3: Invalid loss, terminating training" in capsys.readouterr().out


def test_terminate_on_nan_raises_where_it_is_told_to() -> None:
    with pytest.raises(RuntimeError, match=r"The loss is nan in batch 0: training is terminated"):
        linear_model().fit(X * np.nan, Y, verbose=0, callbacks=[TerminateOnNaN(raise_error=True)])


def test_lambda_callback_refuses_unknown_hooks() -> None:
    with pytest.raises(
        TypeError, match=r"hooks of `Callback`: on_train_begin.*Received: on_monday"
    ):
        LambdaCallback(on_monday=print)
    LambdaCallback(on_train_begin=None)


def test_callback_list_refuses_other_objects() -> None:
    with pytest.raises(TypeError, match=r"`callbacks` must hold Callback objects\. Received: 3"):
        CallbackList([3])  # type: ignore[list-item]


def test_callback_list_knows_who_listens() -> None:
    assert not CallbackList([History()]).listens("on_train_batch_end")
    assert CallbackList([TerminateOnNaN()]).listens("on_train_batch_end")
    assert CallbackList([LambdaCallback(on_batch_end=print)]).listens("on_train_batch_end")
    assert not CallbackList([LambdaCallback(on_batch_end=print)]).listens("on_test_batch_end")


# ---- progress


def test_silent(capfd: pytest.CaptureFixture[str]) -> None:
    model = linear_model()
    model.fit(X, Y, verbose=0)
    model.evaluate(X, Y)  # "auto", and no terminal
    model.predict(X)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [2, "auto"])
def test_a_line_per_epoch(verbose: int | str, capfd: pytest.CaptureFixture[str]) -> None:
    linear_model().fit(X, Y, epochs=2, verbose=verbose, validation_split=0.2)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert [line[:9] for line in lines] == ["Epoch 1/2", "Epoch 2/2"]
    assert all(name in lines[0] for name in ("loss: ", "mse: ", "val_loss: ", "val_mse: "))
    assert err == ""


def test_progress_bar(capfd: pytest.CaptureFixture[str]) -> None:
    model = linear_model()
    model.fit(X, Y, batch_size=5, epochs=2, verbose=1, validation_split=0.2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Epoch 1/2: 100%" in err
    assert "Epoch 2/2: 100%" in err
    assert "2/2" in err
    assert "val_loss: " in err
    assert "Evaluate" not in err  # validation is part of the epoch
    model.evaluate(X, Y, verbose=1)
    model.predict(X, verbose=1)
    _, err = capfd.readouterr()
    assert "Evaluate: 100%" in err
    assert "Predict: 100%" in err


def test_own_progress_bar_is_not_doubled() -> None:
    given = ProgbarLogger()
    assert CallbackList([given], add_progbar=True).callbacks == [given]
