"""Whether a contender's answer is right: compared with the formula in float64, before timing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks import reference
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer
from fusednn.benchmarks.optimizers import LEARNING_RATES, OPTIMIZERS
from fusednn.benchmarks.samples import SLACK

#: Largest error allowed, relative to the largest element of the right answer, or to 1.
TOLERANCES = {"float32": 1e-4, "float64": 1e-9, "bfloat16": 3e-2, "float16": 1e-2}
#: Of an optimizer's parameters, which differ by little to begin with.
_OPTIMIZER_TOLERANCES = TOLERANCES | {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
#: Of parameters whose states are kept in 8 bits, each off by up to an eighth: learning rates.
_QUANTIZED_TOLERANCE = 0.2
#: Of what is rounded to bfloat16 up or down, twice.
_COARSE_TOLERANCE = 3e-2
#: Of the losses of `samples.TRAINING_STEPS`: of the first, and of those after updates, whose first
#: directions are signs.
LOSS_TOLERANCES = (1e-4, 1e-2, 3e-2)


def right_answer(case: Case) -> Answer:
    """Compute what a case's answer must be, in float64."""
    return reference.ANSWERS[case.family](case)


def difference(case: Case, answer: Answer, right: Answer) -> str:
    """Tell how an answer differs from the right one; empty where it does not."""
    case = case.under_test
    for name, expected in right.items():
        if name.endswith(SLACK):
            continue
        if name not in answer:
            return f"{name} is missing"
        received = answer[name]
        if received.shape != expected.shape:
            return f"{name} has shape {received.shape}, not {expected.shape}"
        if not np.all(np.isfinite(received)):
            return f"{name} is not finite"
        allowed = _allowed(case, name, expected) + right.get(name + SLACK, 0.0)
        error = np.abs(received - expected)
        if np.any(error > allowed):
            worst = np.argmax(error / allowed)
            return f"{name} is off by {error.flat[worst]:.2g}, more than {allowed.flat[worst]:.2g}"
    return ""


def _allowed(case: Case, name: str, expected: NDArray[Any]) -> NDArray[Any]:
    if case.family == "step":
        losses: NDArray[Any] = np.array(LOSS_TOLERANCES) * np.maximum(1.0, np.abs(expected))
        return losses
    tolerance = TOLERANCES[case.dtype]
    if case.family == "optimizer":
        optimizer = OPTIMIZERS[case.variant]
        tolerance = _OPTIMIZER_TOLERANCES[case.dtype]
        if optimizer.quantized:
            tolerance = max(tolerance, _QUANTIZED_TOLERANCE * LEARNING_RATES[case.dtype])
        if optimizer.stochastic_rounding or name == "low_precision_copies":
            tolerance = _COARSE_TOLERANCE
    return np.full(expected.shape, tolerance * float(np.max(np.abs(expected), initial=1.0)))
