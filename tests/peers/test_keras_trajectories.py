"""Golden trajectories: whole models and every optimizer, schedule, clipping and decay of Keras."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras_trajectories
import numpy as np
import pytest

from fusednn import layers, models, optimizers

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras", reason="compares with Keras")
pytest.importorskip("torch", reason="Keras computes in float64 with it")

NAMES = [
    "-".join([name, *(f"{k}={v}" for k, v in options.items() if k != "learning_rate" or v != 0.02)])
    for name, options in keras_trajectories.CASES
]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("keras") / "trajectories.npz"
    return keras_trajectories.recorded(Path(keras_trajectories.__file__), path)


@pytest.mark.parametrize("case", range(len(NAMES)), ids=NAMES)
def test_fifty_steps(golden: Any, case: int) -> None:
    name, options = keras_trajectories.CASES[case]
    model = keras_trajectories.network(layers, models.Sequential)
    start = model.get_weights()
    model.compile(
        keras_trajectories.optimizer(optimizers, name, options), "sparse_categorical_crossentropy"
    )
    trajectory = keras_trajectories.trajectory(model)
    for j, group in enumerate(trajectory):
        for k, array in enumerate(group):
            want = golden[f"{case}/{j}/{k}"]
            np.testing.assert_allclose(array, want, rtol=1e-6, atol=1e-6, err_msg=f"{j} {k}")
    moved = [np.abs(a - b).max() > 1e-3 for a, b in zip(start, trajectory[2], strict=True)]
    assert moved == [True] * 7 + [False] * 4 + [True] * 2  # the frozen normalisation stays


def test_every_class_is_there() -> None:
    trained = {name for name, _ in keras_trajectories.CASES}
    known = {n for n in optimizers.__all__ if n[0].isupper()} - {"Optimizer", "RMSProp"}
    assert trained == known
