"""What `tf.compat.v1.train` does to a few parameters, and the record of it.

TensorFlow takes 1.3 GB, too much to install for every run of the tests. ``pip install
tensorflow-cpu; python tests/peers/tensorflow_trajectories.py`` records anew. All numbers are
fractions of powers of two, because TensorFlow keeps hyper-parameters in float32.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RECORD = Path(__file__).with_suffix(".json")
STEPS, SIZE = 40, 11
# Up, down, and still: a rate inside a buffer shows.
RATES = [(1 + step % 5) / 64 if step % 16 < 12 else 0.0 for step in range(STEPS)]
OPTIMIZERS = {
    "sgd": "MomentumOptimizer",
    "adagrad": "AdagradOptimizer",
    "rmsprop": "RMSPropOptimizer",
    "adam": "AdamOptimizer",
}
# Ours and TensorFlow's, of what need not be called the same.
HYPERPARAMETERS = {"nesterov": "use_nesterov", "rho": "decay", "eps": "epsilon"}
STATES = {
    "momentum_buffers": "momentum",
    "sums": "accumulator",
    "square_avgs": "rms",
    "grad_avgs": "mg",
    "exp_avgs": "m",
    "exp_avg_sqs": "v",
}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"momentum": 0.0}),
    ("sgd", {"momentum": 0.875}),
    ("sgd", {"momentum": 0.875, "nesterov": True}),
    ("adagrad", {}),
    ("rmsprop", {"rho": 0.875, "eps": 2**-4}),
    ("rmsprop", {"rho": 0.875, "eps": 2**-4, "momentum": 0.75}),
    ("rmsprop", {"rho": 0.875, "eps": 2**-4, "centered": True}),
    ("rmsprop", {"rho": 0.875, "eps": 2**-4, "momentum": 0.75, "centered": True}),
    ("adam", {"beta1": 0.875, "beta2": 0.96875, "eps": 2**-4}),
]


def case_name(kind: str, options: dict[str, Any]) -> str:
    return "-".join([kind, *(f"{name}={value}" for name, value in options.items())])


def start() -> np.ndarray:
    return np.arange(SIZE) / 8 - 0.5


def gradients() -> Iterator[np.ndarray]:
    """Large and small ones, with a drift; the same on every machine."""
    scale = 2.0 ** (np.arange(SIZE) % 4 - 2)
    for step in range(STEPS):
        yield scale * ((np.arange(SIZE) * 37 + step * 101) % 64 - 24) / 32


def tensorflow_trajectory(kind: str, options: dict[str, Any]) -> dict[str, list[float]]:
    """The parameters and every state after the last step, by our names."""
    import tensorflow as tf

    given = {HYPERPARAMETERS.get(name, name): value for name, value in options.items()}
    step = 0
    peer = getattr(tf.compat.v1.train, OPTIMIZERS[kind])(lambda: RATES[step], **given)
    variable = tf.Variable(start(), dtype=tf.float64)
    for grad in gradients():
        peer.apply_gradients([(tf.constant(grad, tf.float64), variable)])
        step += 1
    found = {"params": variable}
    slots = {ours: peer.get_slot(variable, theirs) for ours, theirs in STATES.items()}
    found |= {name: slot for name, slot in slots.items() if slot is not None}
    return {name: value.numpy().tolist() for name, value in found.items()}


def tensorflow_defaults(kind: str) -> dict[str, Any]:
    """Those of hyper-parameters that we have too, by our names."""
    import tensorflow as tf

    cls = getattr(tf.compat.v1.train, OPTIMIZERS[kind])
    ours = {theirs: name for name, theirs in HYPERPARAMETERS.items()}
    return {
        ours.get(name, name): parameter.default
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def record() -> None:
    import tensorflow as tf

    found = {
        "tensorflow": tf.__version__,
        "defaults": {kind: tensorflow_defaults(kind) for kind in OPTIMIZERS},
        "trajectories": {case_name(*case): tensorflow_trajectory(*case) for case in CASES},
    }
    RECORD.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    record()
