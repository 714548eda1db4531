"""Losses with their gradients, and metrics, against real Keras, differentiated by its backend."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from fusednn import losses, metrics

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")
from keras_gradients import values_and_gradient  # noqa: E402

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("MeanAbsoluteError", {}),
    ("MeanAbsolutePercentageError", {}),
    ("MeanSquaredLogarithmicError", {}),
    ("Huber", {}),
    ("Huber", {"delta": 0.25}),
    ("LogCosh", {}),
    ("Poisson", {}),
    ("Hinge", {}),
    ("SquaredHinge", {}),
    ("CategoricalHinge", {}),
    ("CosineSimilarity", {}),
    ("KLDivergence", {}),
    ("BinaryFocalCrossentropy", {}),
    ("BinaryFocalCrossentropy", {"gamma": 0.0}),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.1, "gamma": 1.5}),
    ("BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}),
    ("CategoricalFocalCrossentropy", {}),
    ("CategoricalFocalCrossentropy", {"gamma": 0.0, "alpha": 1.0}),
    ("CategoricalFocalCrossentropy", {"alpha": [0.1, 0.5, 1.0, 2.0], "gamma": 0.5}),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}),
]


def data(rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
    p = rng.uniform(0.05, 0.95, (31, 4)).astype(np.float32)
    t = rng.uniform(0.05, 0.95, (31, 4)).astype(np.float32)
    if "Hinge" in name:
        t = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 31)]
    return t, p


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
@pytest.mark.parametrize(("name", "options"), LOSSES)
def test_losses(
    rng: np.random.Generator, name: str, options: dict[str, Any], reduction: str
) -> None:
    t, p = data(rng, name)
    mine = getattr(losses, name)(reduction=reduction, **options)
    theirs = getattr(keras.losses, name)(reduction=reduction, **options)
    want, gradient = values_and_gradient(lambda z: theirs(t, z), p)
    value, own = mine.value_and_gradient(t, p)
    assert value == pytest.approx(float(want), rel=1e-5)
    np.testing.assert_allclose(own, gradient, rtol=1e-4, atol=1e-6)
    config = theirs.get_config()
    own_config = mine.get_config()
    # Keras leaves out the delta of Huber.
    shared = own_config.keys() & config.keys()
    assert {k: own_config[k] for k in shared} == {k: config[k] for k in shared}


METRICS: list[tuple[str, dict[str, Any]]] = [
    ("MeanAbsoluteError", {}),
    ("MeanAbsolutePercentageError", {}),
    ("MeanSquaredLogarithmicError", {}),
    ("RootMeanSquaredError", {}),
    ("CosineSimilarity", {}),
    ("LogCoshError", {}),
    ("Poisson", {}),
    ("KLDivergence", {}),
    ("Hinge", {}),
    ("SquaredHinge", {}),
    ("CategoricalHinge", {}),
    ("BinaryCrossentropy", {}),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}),
    ("TopKCategoricalAccuracy", {"k": 2}),
    ("Precision", {}),
    ("Precision", {"thresholds": [0.2, 0.6]}),
    ("Recall", {"class_id": 1}),
    ("Recall", {"top_k": 2}),
    ("Recall", {"top_k": 3, "thresholds": [0.2, 0.6], "class_id": 2}),
    ("Precision", {"top_k": 1}),
    ("Precision", {"top_k": 2, "thresholds": 0.6, "class_id": 1}),
    ("F1Score", {}),
    *(("F1Score", {"average": average}) for average in ("micro", "macro", "weighted")),
    ("FBetaScore", {"beta": 2.0, "average": "macro", "threshold": 0.4}),
    ("R2Score", {}),
    ("R2Score", {"class_aggregation": None, "num_regressors": 3}),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}),
    (
        "MeanIoU",
        {"dtype": "float32", "num_classes": 4, "sparse_y_true": False, "sparse_y_pred": False},
    ),
    (
        "MeanIoU",
        {
            "dtype": "float32",
            "num_classes": 3,
            "sparse_y_true": False,
            "sparse_y_pred": False,
            "ignore_class": 1,
        },
    ),
    ("TruePositives", {}),
    ("FalsePositives", {}),
    ("TrueNegatives", {}),
    ("FalseNegatives", {}),
    ("AUC", {}),
    ("AUC", {"curve": "PR"}),
    ("AUC", {"num_thresholds": 20}),
    ("AUC", {"thresholds": [0.7, 0.11, 0.5]}),
    ("AUC", {"from_logits": True}),
    ("AUC", {"label_weights": [0.5, 0.0, 2.0, 1.0]}),
    ("AUC", {"multi_label": True, "label_weights": [0.5, 0.0, 2.0, 1.0]}),
    ("AUC", {"multi_label": True, "num_labels": 4, "thresholds": [0.25, 0.35, 0.9]}),
    *(
        ("AUC", {"curve": curve, "summation_method": method, "multi_label": labels})
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "minoring", "majoring")
        for labels in (False, True)
    ),
]


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # Keras' confusion matrix
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "options"), METRICS)
def test_metrics(
    rng: np.random.Generator, name: str, options: dict[str, Any], weighted: bool
) -> None:
    if weighted and name == "RootMeanSquaredError":
        pytest.skip("Keras weighs elements in another way")
    mine, theirs = (getattr(library, name)(**options) for library in (metrics, keras.metrics))
    assert theirs.name.startswith(mine.name)  # they count up the names of some
    for rows in (7, 31):
        t, p = data(rng, "Hinge")
        w = rng.random(31).astype(np.float32)[:rows] if weighted else None
        mine.update_state(t[:rows], p[:rows], sample_weight=w)
        theirs.update_state(t[:rows], p[:rows], sample_weight=w)
    np.testing.assert_allclose(
        mine.result(), keras.ops.convert_to_numpy(theirs.result()), rtol=1e-4, atol=1e-6
    )
