"""Loss and metrics without passes of their own: who reads a step's predictions, and how often."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from fusednn.layers import BatchNormalization, Dense, Input, LeakyReLU
from fusednn.models import Sequential
from fusednn.optimizers import Adam
from products_of_steps import shapes_of_products

ROWS, FEATURES, CLASSES = 64, 8, 10
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, FEATURES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]

#: Loss -> targets, and how often the step looks for the largest number of each row: of the
#: predictions the loss does, of one-hot targets a metric must.
LARGEST = {
    "sparse_categorical_crossentropy": (LABELS, {False: 1, True: 1}),
    "categorical_crossentropy": (ONE_HOT, {False: 1, True: 2}),
}


def trained(loss: str, metrics: list[str]) -> Sequential:
    layers = [Dense(7), BatchNormalization(), LeakyReLU(), Dense(CLASSES, activation="softmax")]
    model = Sequential([Input((FEATURES,)), *layers])
    model.compile(Adam(), loss, metrics=metrics)
    for _ in range(2):
        model.train_on_batch(X, LARGEST[loss][0])
    return model


def methods(run: Callable[[], object]) -> Counter[str]:
    """Count the calls of methods of arrays that are as large as the predictions."""
    found: Counter[str] = Counter()

    def look(frame: FrameType, event: str, method: Any) -> None:
        of = getattr(method, "__self__", None) if event == "c_call" else None
        if isinstance(of, np.ndarray) and of.size == ROWS * CLASSES:
            found[method.__name__] += 1

    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("loss", LARGEST)
def test_an_accuracy_takes_the_place_of_the_largest_from_the_loss(loss: str) -> None:
    y, largest = LARGEST[loss]
    seen = {}
    for metrics in ([], ["accuracy"]):
        model = trained(loss, metrics)
        seen[bool(metrics)] = methods(lambda m=model: m.train_on_batch(X, y))
    assert {told: found["argmax"] for told, found in seen.items()} == largest
    without = {told: found - Counter(argmax=9) for told, found in seen.items()}
    assert without[True] == without[False]


@pytest.mark.parametrize(
    ("loss", "metrics"),
    [
        *((loss, ["accuracy"]) for loss in LARGEST),
        ("categorical_crossentropy", ["accuracy", "mse", "top_k_categorical_accuracy"]),
    ],
)
def test_metrics_do_not_evaluate_the_network(
    monkeypatch: pytest.MonkeyPatch, loss: str, metrics: list[str]
) -> None:
    made = shapes_of_products(monkeypatch, lambda: trained(loss, metrics))
    forward = [(ROWS, FEATURES, 7), (ROWS, 7, CLASSES)]
    backward = [(7, ROWS, CLASSES), (ROWS, CLASSES, 7), (FEATURES, ROWS, 7)]
    assert made == 2 * (forward + backward)


def test_a_pass_over_the_predictions_is_seen() -> None:
    y_pred = np.zeros((ROWS, CLASSES))
    assert methods(lambda: (y_pred.argmax(axis=1), y_pred[:3].argmax(axis=1))) == {"argmax": 1}
