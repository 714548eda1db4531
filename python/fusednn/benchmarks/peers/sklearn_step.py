"""scikit-learn's MLPClassifier, one batch of ``partial_fit``: it has no BatchNorm."""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Contender
from fusednn.benchmarks.shapes import MODELS, STEP_LEARNING_RATE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    data = inputs.training(case)
    model = MODELS[case.subject]
    classifier = MLPClassifier(
        model.widths[1:-1],
        solver="adam",
        batch_size=model.batch,
        learning_rate_init=STEP_LEARNING_RATE,
        alpha=0.0,
    )
    classes = np.arange(model.widths[-1])
    classifier.partial_fit(data.x, data.labels, classes=classes)
    return Contender(
        lambda: classifier.partial_fit(data.x, data.labels),
        dict,
        reuses=False,
        checked=False,
        note="ReLU and no BatchNorm: another, lighter model, not checked",
    )
