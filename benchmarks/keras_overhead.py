"""What fusednn.keras saves of a step beside Keras' own layers and optimizers, on small arrays.

``KERAS_BACKEND=torch python benchmarks/keras_overhead.py`` prints a table: the layer at (64, 32)
beside Keras' two, and a step of each optimizer on 60 variables of 32 numbers, with other gradients
in each step and with the same. Each figure is the least of many repetitions; forms take turns.
"""

from __future__ import annotations

import os
import timeit
from collections.abc import Callable
from itertools import cycle, repeat
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

import fusednn.keras

ROUNDS, CALLS = 60, 5  # short turns: some lie between those of other programs


def row(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    best = dict.fromkeys((ours, theirs), float("inf"))
    for _ in range(ROUNDS):
        for function in best:
            best[function] = min(best[function], timeit.timeit(function, number=CALLS) / CALLS)
    times = [1e6 * seconds for seconds in best.values()]
    print(f"| {name} | {times[0]:.0f} | {times[1]:.0f} | {times[0] / times[1]:.2f} |")


def layers() -> None:
    own = fusednn.keras.BatchNormalizationLeakyReLU()
    norm, activation = keras.layers.BatchNormalization(), keras.layers.LeakyReLU()
    x, grad = torch.randn(64, 32, requires_grad=True), torch.randn(64, 32)

    def pair(training: bool) -> torch.Tensor:
        return activation(norm(x, training=training))

    torch.testing.assert_close(own(x, training=True), pair(True))
    row(
        "layer, training forward and backward",
        lambda: own(x, training=True).backward(grad),
        lambda: pair(True).backward(grad),
    )
    with torch.no_grad():
        row("layer, inference", lambda: own(x, training=False), lambda: pair(False))


def optimizers() -> None:
    rng = np.random.default_rng(0)
    # As backward passes leave them: other tensors in each step.
    gradients = [[torch.randn(32) for _ in range(60)] for _ in range(8)]
    options: dict[str, dict[str, Any]] = {
        "SGD": {"momentum": 0.9},
        "Adagrad": {},
        "RMSprop": {},
        "Adam": {},
        "AdamW": {},
    }
    for name, own in options.items():
        steps = []
        for package in (fusednn.keras.optimizers, keras.optimizers):
            variables = [
                keras.Variable(rng.standard_normal(32), dtype="float32") for _ in range(60)
            ]
            optimizer = getattr(package, name)(1e-4, **own)
            optimizer.build(variables)
            kept, new = repeat(gradients[0]), cycle(gradients)
            steps += [
                lambda o=optimizer, v=variables, g=g: o.apply(next(g), v) for g in (new, kept)
            ]
        row(f"{name}, 60 variables of 32, new gradients", steps[0], steps[2])
        row(f"{name}, gradients kept", steps[1], steps[3])


def main() -> None:
    torch.set_num_threads(1)
    print(f"keras {keras.__version__}, torch {torch.__version__}, one thread\n")
    print("| microseconds | fusednn | Keras | ratio |\n|---|---|---|---|")
    layers()
    optimizers()


if __name__ == "__main__":
    main()
