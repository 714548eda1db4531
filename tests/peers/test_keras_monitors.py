"""Which way metrics improve, and their names in the logs, against real Keras."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusednn

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASES = {"Metric", "Mean", "MeanMetricWrapper", "Sum"}
NAMES = sorted(
    name
    for name, entry in vars(fusednn.metrics).items()
    if inspect.isclass(entry) and hasattr(keras.metrics, name) and name not in BASES
)


@pytest.mark.parametrize("name", NAMES)
def test_directions(name: str) -> None:
    given = {"MeanIoU": [2]}.get(name, [0.5] if "At" in name else [])
    own = getattr(fusednn.metrics, name)(*given)._direction
    assert own == getattr(getattr(keras.metrics, name)(*given), "_direction", None)


def logged(library: Any) -> list[str]:
    model = library.Sequential([library.layers.Dense(1, activation="sigmoid")])
    model.compile(
        *("sgd", "binary_crossentropy"),
        metrics=["accuracy", "mse", "mse", library.metrics.AUC(name="area")],
        weighted_metrics=["accuracy", "mse", "mae"],
    )
    x, y = np.ones((8, 2), np.float32), np.arange(8.0)[:, None] % 2
    return list(model.fit(x, y, verbose=0, validation_split=0.5).history)


def test_names_in_the_logs() -> None:
    assert sorted(logged(fusednn)) == sorted(logged(keras))


def test_arrays_in_the_logs(tmp_path: Path) -> None:
    """Of metrics with a number for each class or threshold: in history, files and results."""
    x = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[np.abs(x[:, :3]).argmax(axis=1)]
    kernel = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    found: dict[str, Any] = {}
    for library in (fusednn, keras):
        layers, name = library.layers, library.__name__
        model = library.Sequential([layers.Input((4,)), layers.Dense(3, activation="softmax")])
        model.set_weights([kernel, np.zeros(3, np.float32)])
        several = library.metrics.Recall(thresholds=[0.3, 0.6], name="at")
        metrics = [library.metrics.F1Score(), several]
        model.compile(library.optimizers.SGD(0.0), "categorical_crossentropy", metrics=metrics)
        logger = library.callbacks.CSVLogger(tmp_path / name)
        history = model.fit(x, y, validation_split=0.25, verbose=0, callbacks=[logger]).history
        kept = {key: np.asarray(value) for key, value in history.items()}
        line = (tmp_path / name).read_text().splitlines()[1]
        cells = [cell for cell in re.split(r",(?! )", line) if "[" in cell]
        found[name] = kept, [np.asarray(v) for v in model.evaluate(x, y, verbose=0)], cells
    own, theirs = found["fusednn"], found["keras"]
    assert own[0]["val_f1_score"].shape == (1, 3)
    assert sorted(own[0]) == sorted(theirs[0])
    for name, value in own[0].items():
        np.testing.assert_allclose(value, theirs[0][name], rtol=1e-5, err_msg=name)
    for value, other in zip(own[1], theirs[1], strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5)
    assert len(own[2]) == len(theirs[2]) == 4
    for cell, other in zip(own[2], theirs[2], strict=True):
        assert re.sub(r"[\d.e-]+", "0", cell) == re.sub(r"[\d.e-]+", "0", other)


LIMITED = [
    ("PrecisionAtRecall", "recall"),
    ("RecallAtPrecision", "precision"),
    ("SensitivityAtSpecificity", "specificity"),
    ("SpecificityAtSensitivity", "sensitivity"),
]


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # Keras' confusion matrix
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"num_thresholds": 1}, {"num_thresholds": 7}, {"class_id": 1}]
)
@pytest.mark.parametrize(("name", "limit"), LIMITED)
def test_best_within_a_limit(
    rng: np.random.Generator, name: str, limit: str, options: dict[str, Any], weighted: bool
) -> None:
    results = set()
    for value in (0.0, 0.3, 0.7, 0.9, 1.0):
        arguments = {limit: value} | options
        mine = getattr(fusednn.metrics, name)(**arguments)
        theirs = getattr(keras.metrics, name)(**arguments)
        for rows in (7, 60):
            t = rng.integers(0, 2, (rows, 3)).astype(np.float32)
            # Some of the numbers are 0 or 1, or thresholds themselves.
            p = np.clip(0.3 * t + rng.integers(-2, 9, (rows, 3)) / 6 + 1e-3, 0, 1).astype("float32")
            w = rng.random(rows).astype(np.float32) if weighted else None
            mine.update_state(t, p, sample_weight=w)
            theirs.update_state(t, p, sample_weight=w)
        want = float(keras.ops.convert_to_numpy(theirs.result()))
        assert mine.result() == pytest.approx(want, rel=1e-5)
        results.add(round(want, 4))
        config = theirs.get_config()
        assert {key: v for key, v in config.items() if key != "dtype"} == {
            **{key: v for key, v in mine.get_config().items() if key != "dtype"},
            "name": config["name"],
        }
        assert getattr(fusednn.metrics, name).from_config(config).get_config()[limit] == value
    assert len(results) > 1


def test_sums() -> None:
    mine, theirs = fusednn.metrics.Sum(), keras.metrics.Sum()
    assert (mine.name, mine._direction) == (theirs.name, None)
    for values, weights in (
        ([1.0, 2.5], None),
        (3.0, None),
        ([[1.0, 2.0], [4.0, 8.0]], [2.0, 0.5]),
    ):
        mine.update_state(values, sample_weight=weights)
        theirs.update_state(values, sample_weight=weights)
    assert mine.result() == float(keras.ops.convert_to_numpy(theirs.result()))
    mine.reset_state()
    assert mine.result() == 0.0


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averages_while_tested(swap_on_epoch: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((48, 4)), rng.standard_normal((48, 2))
    kernel = rng.standard_normal((4, 2)).astype(np.float32)
    found = []
    for library in (fusednn, keras):
        model = library.Sequential([library.layers.Input((4,)), library.layers.Dense(2)])
        model.set_weights([kernel, np.zeros(2, np.float32)])
        model.compile(library.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8), "mse")
        swap = library.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
        arguments = {"shuffle": False, "verbose": 0, "validation_data": (x, y), "callbacks": [swap]}
        history = model.fit(x, y, 8, epochs=4, **arguments).history
        found.append((history, model.get_weights()))
    (ours, own), (theirs, their) = found
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, err_msg=name)
    for a, b in zip(own, their, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
