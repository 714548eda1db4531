"""F scores, R2, overlap of classes, and accuracies as functions, beside scikit-learn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, fbeta_score, jaccard_score, r2_score

from fusednn import callbacks, diagnostics, metrics
from fusednn.layers import Dense
from fusednn.metrics import F1Score, FBetaScore, MeanIoU, R2Score
from fusednn.models import Sequential
from fusednn.optimizers import SGD

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 97)
ONE_HOT = np.eye(3)[LABELS]
SCORES = RNG.random((97, 3)) + 0.4 * ONE_HOT
WEIGHTS = RNG.random(97)


def in_batches(metric: Any, y_true: np.ndarray, y_pred: np.ndarray, **weights: np.ndarray) -> Any:
    for start, stop in ((0, 7), (7, 8), (8, 97), (97, 97)):
        part = {name: value[start:stop] for name, value in weights.items()}
        metric.update_state(y_true[start:stop], y_pred[start:stop], **part)
    return metric.result()


@pytest.mark.parametrize("average", [None, "micro", "macro", "weighted"])
def test_f_scores(average: str | None) -> None:
    best = SCORES.argmax(axis=1)
    want = f1_score(LABELS, best, average=average, sample_weight=WEIGHTS)
    got = in_batches(F1Score(average), ONE_HOT, SCORES, sample_weight=WEIGHTS)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    several = (RNG.random((97, 3)) > 0.5).astype(int)
    want = fbeta_score(several, SCORES > 0.7, beta=2, average=average)
    got = in_batches(FBetaScore(average, beta=2, threshold=0.7), several, SCORES)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
    ("aggregation", "name"),
    [
        (None, "raw_values"),
        ("uniform_average", "uniform_average"),
        ("variance_weighted_average", "variance_weighted"),
    ],
)
def test_r2(aggregation: str | None, name: str) -> None:
    want = r2_score(ONE_HOT, SCORES, multioutput=name, sample_weight=WEIGHTS)
    got = in_batches(R2Score(aggregation), ONE_HOT, SCORES, sample_weight=WEIGHTS)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_r2_adjusted() -> None:
    y, p = np.arange(10.0), np.arange(10.0) + 0.5
    plain = R2Score()(y, p)
    assert plain == pytest.approx(r2_score(y, p))
    assert R2Score(num_regressors=2)(y, p) == pytest.approx(1 - (1 - plain) * 9 / 7)
    with pytest.warns(UserWarning, match="10 values, too few to adjust R2 for 9 regressors"):
        assert R2Score(num_regressors=9)(y, p) == plain


def test_overlap() -> None:
    best = SCORES.argmax(axis=1)
    want = jaccard_score(LABELS, best, average="macro", sample_weight=WEIGHTS)
    assert in_batches(MeanIoU(3), LABELS, best, sample_weight=WEIGHTS) == pytest.approx(want)
    probabilities = MeanIoU(3, sparse_y_true=False, sparse_y_pred=False)
    unweighted = jaccard_score(LABELS, best, average="macro")
    assert in_batches(probabilities, ONE_HOT, SCORES) == pytest.approx(unweighted)
    assert MeanIoU(9)(LABELS, best) == pytest.approx(unweighted)  # absent classes do not count
    assert MeanIoU(2)([0, 1, 5, -1, 0], [0, 1, 0, 0, 7]) == 1
    assert MeanIoU(2, ignore_class=1)([0, 1, 1], [0, 0, 1]) == 1
    assert MeanIoU(2).result() == 0


@pytest.mark.parametrize(
    "metric", [F1Score("macro"), FBetaScore("micro", 2.0, 0.3), R2Score(None, 1), MeanIoU(3)]
)
def test_configurations_and_new_epochs(metric: metrics.Metric) -> None:
    again = type(metric).from_config(metric.get_config())
    assert again.get_config() == metric.get_config()
    targets, outputs = (LABELS, LABELS) if isinstance(metric, MeanIoU) else (ONE_HOT, SCORES)
    first = np.asarray(metric(targets, outputs))
    metric.reset_state()
    np.testing.assert_array_equal(metric(targets, outputs), first)
    metric.set_state(again.get_state())
    np.testing.assert_array_equal(metric(targets, outputs), first)


def test_in_models() -> None:
    model = Sequential([Dense(3, "softmax", input_dim=3)])
    model.compile(loss="categorical_crossentropy", metrics=["r2_score", F1Score("macro")])
    model.fit(SCORES, ONE_HOT, verbose=0)
    want = f1_score(LABELS, model.predict(SCORES, verbose=0).argmax(axis=1), average="macro")
    logs = model.evaluate(SCORES, ONE_HOT, verbose=0, return_dict=True)
    assert logs["f1_score"] == pytest.approx(want, rel=1e-6)


def test_arrays_in_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Sequential([Dense(3, "softmax", input_dim=3)])
    model.compile(SGD(0.0), "categorical_crossentropy", metrics=[F1Score(), "accuracy"])
    path = tmp_path / "logs.csv"
    data = {"validation_data": (SCORES, ONE_HOT)}
    history = model.fit(
        SCORES, ONE_HOT, epochs=2, verbose=2, callbacks=[callbacks.CSVLogger(path)], **data
    ).history
    want = f1_score(LABELS, model.predict(SCORES, verbose=0).argmax(axis=1), average=None)
    for value in (*history["f1_score"], *history["val_f1_score"]):
        np.testing.assert_allclose(value, want, rtol=1e-6)
    assert history["f1_score"][0] is not history["f1_score"][1]
    results = model.evaluate(SCORES, ONE_HOT, verbose=0)
    np.testing.assert_allclose(results[1], want, rtol=1e-6)
    assert f"f1_score: {np.mean(want):.4g} - accuracy" in capsys.readouterr().out
    with path.open() as file:
        first = next(csv.DictReader(file))
    numbers = first["val_f1_score"].strip('"[]').split(", ")
    np.testing.assert_allclose([float(number) for number in numbers], want, rtol=1e-6)
    axes = diagnostics.plot_history(history)
    assert len(axes.lines) == 2 * (1 + 3 + 1)
    for callback in (callbacks.EarlyStopping, callbacks.ModelCheckpoint):
        arguments = {"filepath": tmp_path / "m.keras", "save_best_only": True}
        watch = callback(
            monitor="val_f1_score", **(arguments if callback is callbacks.ModelCheckpoint else {})
        )
        with pytest.raises(
            ValueError, match=r"`monitor` of \w+ must name one number.*shape \(3,\)"
        ):
            model.fit(SCORES, ONE_HOT, verbose=0, callbacks=[watch], **data)


def test_arrays_in_backups(tmp_path: Path) -> None:
    """A training that was broken off goes on with the arrays of the epochs before."""

    def run(stop: bool) -> callbacks.History:
        model = Sequential([Dense(3, "softmax", input_dim=3, kernel_initializer="ones")])
        model.compile(SGD(0.1), "categorical_crossentropy", metrics=[F1Score()])
        ends = callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: [].pop() if stop and epoch == 2 else None
        )
        history = callbacks.History()
        backup = callbacks.BackupAndRestore(tmp_path)
        arguments: dict[str, Any] = {"epochs": 3, "verbose": 0, "shuffle": False}
        try:
            model.fit(SCORES, ONE_HOT, callbacks=[history, backup, ends], **arguments)
        except IndexError:
            assert stop
        return history

    expected = run(stop=False).history["f1_score"]
    run(stop=True)
    np.testing.assert_array_equal(run(stop=False).history["f1_score"], expected)


FUNCTIONS = [
    ("binary_accuracy", ONE_HOT, SCORES),
    ("categorical_accuracy", ONE_HOT, SCORES),
    ("sparse_categorical_accuracy", LABELS, SCORES),
    ("top_k_categorical_accuracy", ONE_HOT, np.hstack([SCORES, SCORES])[:, :3]),
    ("sparse_top_k_categorical_accuracy", LABELS, SCORES),
    ("mean_absolute_error", ONE_HOT, SCORES),
]


@pytest.mark.parametrize(("name", "y_true", "y_pred"), FUNCTIONS, ids=lambda v: str(v)[:40])
def test_functions(name: str, y_true: np.ndarray, y_pred: np.ndarray) -> None:
    function = getattr(metrics, name)
    of_samples = function(y_true, y_pred)
    assert of_samples.shape == (97,)
    metric = metrics.get(function)
    assert metric.name == name
    assert of_samples.mean() == pytest.approx(metric(y_true, y_pred), rel=1e-5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="`average` must be one of None, micro, macro, weighted"):
        F1Score("mean")
    with pytest.raises(
        ValueError, match=r"`threshold` must be in \(0, 1\]\. Received: threshold=0"
    ):
        F1Score(threshold=0)
    with pytest.raises(ValueError, match="`class_aggregation` must be one of None, uniform"):
        R2Score("mean")
    with pytest.raises(ValueError, match=r"must have shape \(batch, classes\).*shape \(3,\)"):
        F1Score()([1, 0, 1], [1, 0, 1])
    metric = R2Score()
    metric.update_state(ONE_HOT, SCORES)
    with pytest.raises(ValueError, match=r"of the batches before\. Received: shape \(97, 2\)"):
        metric.update_state(ONE_HOT[:, :2], SCORES[:, :2])
    with pytest.raises(ValueError, match="`num_classes` must be at least 1"):
        MeanIoU(0)
    with pytest.raises(
        ValueError, match=r"a label for each prediction.*shape \(2,\).*shape \(3,\)"
    ):
        MeanIoU(3)([0, 1], [0, 1, 2])
