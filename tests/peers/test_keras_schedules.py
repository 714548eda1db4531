"""Schedules against real Keras, and the one cycle against PyTorch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from fusednn.optimizers import schedules

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")
torch = pytest.importorskip("torch", reason="compares with PyTorch")

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("ExponentialDecay", (0.1, 20, 0.5), {}),
    ("ExponentialDecay", (0.1, 20, 0.5), {"staircase": True}),
    ("InverseTimeDecay", (0.1, 20, 0.5), {}),
    ("InverseTimeDecay", (0.1, 20, 0.5), {"staircase": True}),
    ("PiecewiseConstantDecay", ([10, 20], [1.0, 0.5, 0.1]), {}),
    ("PolynomialDecay", (0.1, 30), {}),
    ("PolynomialDecay", (0.1, 30), {"power": 2.0, "cycle": True, "end_learning_rate": 0.01}),
    ("CosineDecay", (0.1, 30), {"alpha": 0.2}),
    ("CosineDecay", (0.01, 30), {"warmup_target": 0.1, "warmup_steps": 10}),
    ("CosineDecayRestarts", (0.1, 11), {}),
    ("CosineDecayRestarts", (0.1, 11), {"t_mul": 1.0, "m_mul": 0.5, "alpha": 0.1}),
    ("CosineDecayRestarts", (0.1, 11), {"t_mul": 1.5, "m_mul": 0.9}),
]


def rates(schedule: Any, steps: int) -> list[float]:
    """Return the rates of a schedule of Keras."""
    rate = schedule
    # JAX compiles these at each call unless the whole is compiled once.
    if keras.backend.backend() == "jax" and "Cosine" in type(schedule).__name__:
        import jax

        rate = jax.jit(schedule)
    return [float(keras.ops.convert_to_numpy(rate(step))) for step in range(steps)]


@pytest.mark.parametrize(("name", "arguments", "options"), CASES)
def test_keras(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    mine = getattr(schedules, name)(*arguments, **options)
    theirs = getattr(keras.optimizers.schedules, name)(*arguments, **options)
    for step, want in enumerate(rates(theirs, 98)):
        assert mine(step) == pytest.approx(want, rel=1e-5, abs=1e-7), step
    assert mine.get_config() == theirs.get_config()
    made = type(theirs).from_config(mine.get_config())
    assert made.get_config() == theirs.get_config()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"anneal_strategy": "linear", "pct_start": 0.45, "three_phase": True},
        {"anneal_strategy": "cos", "div_factor": 10.0, "final_div_factor": 100.0},
    ],
)
def test_one_cycle_is_pytorchs(options: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.5, total_steps=97, cycle_momentum=False, **options
    )
    mine = schedules.OneCycle(0.5, 97, **options)
    rates = []
    for _ in range(97):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        if len(rates) < 97:
            theirs.step()
    np.testing.assert_allclose([mine(step) for step in range(97)], rates, rtol=1e-9)
