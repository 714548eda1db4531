"""Files with moving averages of the weights, both ways; a program, as the backend is a process's.

Keras on JAX can neither set these states nor, once weights were overwritten, train on after
loading; Keras on PyTorch can.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import keras
import numpy as np
from test_keras_files import HOW_TO_GO_ON, X, compiled, go_on, h5py

from fusednn import layers, models, optimizers

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {"use_ema": True}),
    ("Adam", {"use_ema": True, "ema_overwrite_frequency": 5}),
    ("RMSprop", {"use_ema": True, "ema_momentum": 0.9, "centered": True}),
]


def to_keras(name: str, options: dict[str, Any], ending: str) -> None:
    ours = compiled(models.Sequential, layers, getattr(optimizers, name)(0.005, **options))
    ours.save(f"model{ending}")
    if ending == ".h5":
        known = {"keras": keras, "h5py": h5py}
        exec(HOW_TO_GO_ON, known)
        theirs: Any = known["model"]
    else:
        theirs = keras.models.load_model("model.keras")
    same_averages(ours, theirs)
    go_on(ours, theirs)
    same_averages(ours, theirs)


def from_keras(name: str, options: dict[str, Any], ending: str) -> None:
    keras.utils.set_random_seed(1)
    optimizer = getattr(keras.optimizers, name)(0.005, **options)
    theirs = compiled(keras.Sequential, keras.layers, optimizer)
    theirs.save(f"k{ending}")
    ours = models.load_model(f"k{ending}")
    same_averages(ours, theirs)
    go_on(ours, theirs)
    same_averages(ours, theirs)


def same_averages(ours: Any, theirs: Any) -> None:
    kept = theirs.optimizer._model_variables_moving_average
    assert len(kept) == len(ours.optimizer.averages) > 0
    for average, their in zip(ours.optimizer.averages, kept, strict=True):
        value = keras.ops.convert_to_numpy(their)
        np.testing.assert_allclose(average, value, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    assert keras.backend.backend() == "torch"
    assert X.dtype == np.float32
    for case in CASES:
        for end in (".keras", ".h5"):
            to_keras(*case, end)
            from_keras(*case, end)
            print("done", *case, end)
