"""Focal losses: formulas, gradients by finite differences, models, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusednn import losses
from fusednn.layers import Dense
from fusednn.losses import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    Loss,
)
from fusednn.models import Sequential
from gradient_check import normal

ONE_HOT = np.eye(3)[np.arange(7) % 3]
LOGITS = normal(7, 3)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LOSSES: list[Loss] = [
    BinaryFocalCrossentropy(),
    BinaryFocalCrossentropy(True, 0.1, 0.5, label_smoothing=0.2),
    BinaryFocalCrossentropy(gamma=0.0, apply_class_balancing=True, reduction="sum"),
    CategoricalFocalCrossentropy(),
    CategoricalFocalCrossentropy([0.1, 1.0, 2.0], 1.5, label_smoothing=0.2, reduction="sum"),
    CategoricalFocalCrossentropy(gamma=0.0),
]


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradients(loss: Loss, logits: bool) -> None:
    x = LOGITS if logits else P
    value, gradient = loss.value_and_gradient(ONE_HOT, x, from_logits=logits)
    numeric = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * 1e-6
            ends.append(loss.value_and_gradient(ONE_HOT, moved, from_logits=logits)[0])
        numeric[place] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)
    assert loss.from_config(loss.get_config()).get_config() == loss.get_config()
    if not logits:
        assert value == pytest.approx(loss(ONE_HOT, P))


def test_without_focus_they_are_cross_entropies() -> None:
    binary = BinaryFocalCrossentropy(gamma=0.0).call(ONE_HOT, P)
    np.testing.assert_allclose(binary, BinaryCrossentropy().call(ONE_HOT, P), rtol=1e-12)
    several = CategoricalFocalCrossentropy(1.0, 0.0).call(ONE_HOT, P)
    np.testing.assert_allclose(several, CategoricalCrossentropy().call(ONE_HOT, P), rtol=1e-12)


def test_formulas() -> None:
    q = np.where(ONE_HOT == 1, P, 1 - P)
    want = (-((1 - q) ** 2) * np.log(q)).mean(axis=1)
    np.testing.assert_allclose(losses.binary_focal_crossentropy(ONE_HOT, P), want, rtol=1e-12)
    q = (P * ONE_HOT).sum(axis=1)
    want = -0.25 * (1 - q) ** 2 * np.log(q)
    np.testing.assert_allclose(losses.categorical_focal_crossentropy(ONE_HOT, P), want, rtol=1e-12)


@pytest.mark.parametrize("name", ["binary_focal_crossentropy", "CategoricalFocalCrossentropy"])
def test_models_learn(name: Any) -> None:
    last = "sigmoid" if name.startswith("b") else "softmax"
    model = Sequential([Dense(3, last, input_dim=3)])
    model.compile("adam", name)
    before = model.evaluate(ONE_HOT, ONE_HOT, verbose=0)
    model.fit(ONE_HOT, ONE_HOT, epochs=20, verbose=0)
    assert model.evaluate(ONE_HOT, ONE_HOT, verbose=0) < before
    predicted = model.predict(ONE_HOT, verbose=0)
    assert losses.get(name)(ONE_HOT, predicted) == pytest.approx(
        model.evaluate(ONE_HOT, ONE_HOT, verbose=0), rel=1e-4
    )


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"`alpha` must be in \[0, 1\]\. Received: alpha=2"):
        BinaryFocalCrossentropy(alpha=2)
    with pytest.raises(ValueError, match="`gamma` must be a finite number >= 0"):
        CategoricalFocalCrossentropy(gamma=-1)
    with pytest.raises(ValueError, match=r"one weight for each of 3 classes\. Received: 2"):
        CategoricalFocalCrossentropy([1, 2])(ONE_HOT, P)
