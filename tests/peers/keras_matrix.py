"""What real Keras' optimizers do with two variables, in float64: ``python keras_matrix.py OUT``.

Every optimizer with each of its own options meets every option that all have and every schedule,
and each of these two the other: 104 cases, in which all pairs occur. Whole networks train with
fewer of them in `keras_trajectories.py`, which also says why this is a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras_trajectories import SCHEDULES, keras_in_float64, optimizer

STEPS = 50
SHAPES = ((5, 7), (7,))

OWN: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adagrad", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "epsilon": 1e-3}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("AdamW", {"amsgrad": True}),
    ("Adamax", {}),
    ("Nadam", {}),
]
AVERAGE = {"use_ema": True, "ema_momentum": 0.9}
COMMON: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1},
    {"clipvalue": 0.5},
    {"clipnorm": 2.0},
    {"global_clipnorm": 2.0},
    AVERAGE,
    AVERAGE | {"ema_overwrite_frequency": 7},
    AVERAGE | {"weight_decay": 0.1, "global_clipnorm": 2.0},
]
RATES: list[dict[str, Any]] = [
    {"learning_rate": 0.02},
    *SCHEDULES,
    {"learning_rate": 0.02, "decay": 0.1},
]
CASES = [
    (name, own | common | RATES[(i + j) % len(RATES)])
    for i, (name, own) in enumerate(OWN)
    for j, common in enumerate(COMMON)
]


def start() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in SHAPES]


def gradients() -> Iterator[list[np.ndarray]]:
    """Some that clipping leaves as they are and some that it does not; with a drift."""
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        scale = (0.1, 0.5, 2.0)[step % 3]
        yield [scale * (0.3 + rng.standard_normal(shape)) for shape in SHAPES]


def main(path: str) -> None:
    keras = keras_in_float64()
    import torch

    arrays = {}
    for i, (name, options) in enumerate(CASES):
        variables = [keras.Variable(value, dtype="float64") for value in start()]
        peer = optimizer(keras.optimizers, name, options)
        peer.build(variables)
        for grads in gradients():
            peer.apply([torch.tensor(grad) for grad in grads], variables)
        for j, variable in enumerate(variables):
            arrays[f"{i}/{j}/stepped"] = keras.ops.convert_to_numpy(variable)
        peer.finalize_variable_values(variables)
        for j, variable in enumerate(variables):
            arrays[f"{i}/{j}/final"] = keras.ops.convert_to_numpy(variable)
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
