"""A multi-layer network of Keras on handwritten digits, as it is and converted.

Both start from the same weights and see the same batches, turn by turn: the losses agree but for
rounding, the accuracy is the same, and a step of the converted one takes less time. Needs Keras 3
with PyTorch (or JAX) and scikit-learn, which brings the digits::

    KERAS_BACKEND=torch python examples/keras/digits_mlp.py
"""

from __future__ import annotations

import os
import statistics
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

import fusednn
import fusednn.keras
from fusednn import datasets


def network() -> keras.Model:
    """Four hidden layers with BatchNormalization and leaky ReLU each, and a classifier."""
    hidden = [
        layer
        for _ in range(4)
        for layer in (
            keras.layers.Dense(128, use_bias=False, kernel_initializer="he_normal"),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.LeakyReLU(0.1),
        )
    ]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def main(
    epochs: int = 8, batch_size: int = 64, threads: int = 1
) -> dict[str, dict[str, list[float] | float]]:
    """Train both; return each one's losses per epoch, accuracy and seconds of a step."""
    fusednn.set_num_threads(threads)
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
    keras.utils.set_random_seed(0)
    (x_train, y_train), (x_test, y_test) = datasets.digits.load_data()
    plain = network()
    models = {"plain": plain, "converted": fusednn.keras.convert(plain)}
    optimizers = {"plain": keras.optimizers, "converted": fusednn.keras.optimizers}
    for name, model in models.items():
        model.compile(
            optimizer=optimizers[name].AdamW(learning_rate=1e-3, weight_decay=1e-2),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    losses: dict[str, list[float]] = {name: [] for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        totals = dict.fromkeys(models, 0.0)
        # All batches of one size: JAX compiles a program for each.
        count = len(x_train) // batch_size
        order = rng.permutation(len(x_train))[: count * batch_size]
        for batch in order.reshape(count, batch_size):
            for name, model in models.items():
                start = time.perf_counter()
                logs = model.train_on_batch(x_train[batch], y_train[batch], return_dict=True)
                seconds[name].append(time.perf_counter() - start)
                totals[name] += float(logs["loss"]) / count
                model.reset_metrics()
        for name in models:
            losses[name].append(totals[name])
    results: dict[str, dict[str, list[float] | float]] = {}
    for name, model in models.items():
        right = float(model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"])
        step = statistics.median(seconds[name])
        results[name] = {"losses": losses[name], "accuracy": right, "step": step}
        curve = " ".join(f"{loss:.4f}" for loss in losses[name])
        print(f"{name:9}: test accuracy {right:.3f}, {1e3 * step:.2f} ms a step, losses {curve}")
    return results


if __name__ == "__main__":
    main()
