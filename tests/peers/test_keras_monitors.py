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
    given = {"MeanIoU": [2]}.get(name, [])
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
