"""Models that the tests of the simulated GPU train there and on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fusednn
from fusednn import optimizers, utils
from fusednn.layers import BatchNormalization, Dense, Input, Layer, LeakyReLU
from fusednn.models import Sequential

ROWS, FEATURES, CLASSES = 97, 6, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, FEATURES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)

Make = Callable[[], list[Layer]]


def network(dtype: str = "float32") -> list[Layer]:
    own = {"dtype": dtype}
    return [
        Dense(8, **own),
        BatchNormalization(momentum=0.9, **own),
        LeakyReLU(0.1, **own),
        Dense(7, activation="tanh", **own),
        BatchNormalization(scale=False, **own),
        Dense(CLASSES, activation="softmax", **own),
    ]


def compiled(make: Make = network, optimizer: Any = "adam", **options: Any) -> Sequential:
    utils.set_random_seed(0)
    model = Sequential([Input((FEATURES,)), *make()])
    arguments = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | options
    model.compile(optimizers.get(optimizer), **arguments)
    return model


def fitted(
    device: str, make: Make = network, optimizer: Callable[[], Any] = lambda: "adam", **fit: Any
) -> tuple[Sequential, dict[str, list[float]]]:
    with fusednn.device(device):
        model = compiled(make, optimizer())
        utils.set_random_seed(1)
        history = model.fit(X, LABELS, **{"epochs": 4, "verbose": 0, **fit})
    return model, history.history


def assert_close(ours: Any, theirs: Any, dtype: str = "float32") -> None:
    # A GPU has the learning rate in float32.
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if dtype == "float32" else {"rtol": 1e-6}
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)
