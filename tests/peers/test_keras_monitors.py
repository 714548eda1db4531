"""Which way metrics improve, and their names in the logs, against real Keras."""

from __future__ import annotations

import inspect
import os
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
