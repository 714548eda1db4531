"""Weights of real Keras after each of some steps, in float64: ``python keras_trajectories.py OUT``.

A process of its own, because Keras has one backend and one `floatx` for a whole process. In float64
two frameworks agree to six digits after fifty steps (Keras' moving statistics pass through
float32), where rounding in float32 alone may take whole models apart: a formula that differs shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 50
SEEN = (1, 7, 50)
BATCH = 16
FEATURES, CLASSES = 7, 3

#: Optimizers with options of their own; a rate that follows a schedule is a pair of name and
#: arguments.
OWN: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adagrad", {}),
    ("Adagrad", {"initial_accumulator_value": 0.0, "epsilon": 1e-2}),
    ("RMSprop", {}),
    ("RMSprop", {"rho": 0.95, "momentum": 0.5}),
    ("RMSprop", {"centered": True, "epsilon": 1e-3}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    ("AdamW", {"weight_decay": 0.2}),
    ("Adamax", {}),
    ("Nadam", {}),
]
SCHEDULES: list[dict[str, Any]] = [
    {"learning_rate": ("ExponentialDecay", (0.05, 10, 0.5))},
    {"learning_rate": ("PiecewiseConstantDecay", ([10, 30], [0.05, 0.02, 0.001]))},
    {"learning_rate": ("PolynomialDecay", (0.05, 20, 0.001, 2.0, True))},
    {"learning_rate": ("InverseTimeDecay", (0.05, 5, 0.5, True))},
    {"learning_rate": ("CosineDecay", (0.001, 30, 0.1, "CosineDecay", 0.05, 10))},
    {"learning_rate": ("CosineDecayRestarts", (0.05, 8, 1.5, 0.9, 0.1))},
]
COMMON: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1},
    {"clipvalue": 0.01},
    {"clipnorm": 0.05},
    {"global_clipnorm": 0.1},
    {"use_ema": True, "ema_momentum": 0.9},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 7},
    *SCHEDULES,
    {"decay": 0.1},
]


#: Gradients of several batches for one step: of every optimizer, with what happens at each batch
#: and what happens at each step. The last step of `STEPS` batches is not complete.
ACCUMULATED: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "clipnorm": 0.05, "gradient_accumulation_steps": 3}),
    ("Adagrad", {"use_ema": True, "ema_momentum": 0.9, "gradient_accumulation_steps": 3}),
    ("RMSprop", {"global_clipnorm": 0.1, "gradient_accumulation_steps": 4}),
    (
        "Adam",
        {
            "use_ema": True,
            "ema_momentum": 0.9,
            "ema_overwrite_frequency": 5,
            "gradient_accumulation_steps": 3,
        },
    ),
    ("AdamW", {"weight_decay": 0.2, "loss_scale_factor": 3.0, "gradient_accumulation_steps": 2}),
    ("Adamax", {"clipvalue": 0.01, "gradient_accumulation_steps": 3}),
    (
        "Nadam",
        {
            "learning_rate": ("ExponentialDecay", (0.05, 5, 0.5)),
            "gradient_accumulation_steps": 4,
        },
    ),
]

#: Each option of one kind, with one of the other.
CASES = [
    (name, {"learning_rate": 0.02} | own | more)
    for (name, own), more in [
        *zip(OWN, COMMON, strict=True),
        *((each, {}) for each in ACCUMULATED),
        (("Adam", {"loss_scale_factor": 1024.0}), {}),
    ]
]


def optimizer(library: Any, name: str, options: dict[str, Any]) -> Any:
    """Make one of `library`, where Keras 3 has a schedule for Keras 2's `decay`."""
    made = dict(options)
    if isinstance(made["learning_rate"], tuple):
        schedule, arguments = made["learning_rate"]
        made["learning_rate"] = getattr(library.schedules, schedule)(*arguments)
    if "decay" in made and library.__name__.startswith("keras"):
        rate = library.schedules.InverseTimeDecay(made["learning_rate"], 1, made.pop("decay"))
        made["learning_rate"] = rate
    return getattr(library, name)(**made)


def recorded(script: Path, path: Path) -> dict[str, np.ndarray]:
    """Run one of these programs in a process of its own, and return what it wrote to `path`."""
    command = [sys.executable, str(script), str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    with np.load(path) as file:
        return dict(file)


def network(library: Any, sequential: Any) -> Any:
    """A normalisation that trains, a frozen one, and layers with and without biases."""
    model = sequential(
        [
            library.Input((FEATURES,)),
            library.Dense(9, use_bias=False, dtype="float64"),
            library.BatchNormalization(momentum=0.9, dtype="float64"),
            library.LeakyReLU(negative_slope=0.1, dtype="float64"),
            library.Dense(8, activation="tanh", dtype="float64"),
            library.BatchNormalization(trainable=False, dtype="float64"),
            library.Dense(CLASSES, activation="softmax", dtype="float64"),
        ]
    )
    rng = np.random.default_rng(3)
    model.set_weights(
        [rng.uniform(0.5, 1.5, w.shape) * rng.choice([-1, 1], w.shape) / np.sqrt(len(w))
         if w.ndim == 2 else rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()]
    )  # fmt: skip
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((STEPS, BATCH, FEATURES))
    return x, np.argmax(x @ rng.standard_normal((FEATURES, CLASSES)), axis=-1)


def trajectory(model: Any) -> list[list[np.ndarray]]:
    """All weights after the steps of `SEEN`, and at last the predictions."""
    x, y = data()
    seen = []
    for step in range(STEPS):
        model.train_on_batch(x[step], y[step])
        if step + 1 in SEEN:
            seen.append([np.asarray(w) for w in model.get_weights()])
    model.optimizer.finalize_variable_values(model.trainable_variables)
    seen.append([np.asarray(w) for w in model.get_weights()])
    seen.append([np.asarray(model.predict(x.reshape(-1, FEATURES), verbose=0))])
    return seen


def keras_in_float64() -> Any:
    """Return Keras on PyTorch, which compiles nothing, on one thread."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    torch.set_num_threads(1)
    keras.config.set_floatx("float64")
    return keras


def main(path: str) -> None:
    keras = keras_in_float64()
    arrays = {}
    for i, (name, options) in enumerate(CASES):
        model = network(keras.layers, keras.Sequential)
        loss = keras.losses.SparseCategoricalCrossentropy(dtype="float64")
        model.compile(optimizer(keras.optimizers, name, options), loss)
        for j, group in enumerate(trajectory(model)):
            for k, array in enumerate(group):
                arrays[f"{i}/{j}/{k}"] = array
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
