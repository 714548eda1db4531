"""A small network of Flax (NNX) or Equinox on handwritten digits, as it is and with fused kernels.

The fused one has BatchNorm and leaky ReLU as one call, and Adam as one call in place. Both start
from the same weights and see the same batches, turn by turn: the losses agree but for rounding, the
accuracy is the same. Needs JAX, optax, scikit-learn, which brings the digits, and flax or
equinox::

    python examples/jax/digits_mlp.py flax
    python examples/jax/digits_mlp.py equinox
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusednn import datasets

#: A network's training step, loss and state: ``step(state, x, labels) -> (state, loss)``.
Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def main(library: str = "flax", epochs: int = 8, batch_size: int = 64) -> dict[str, dict[str, Any]]:
    """Train both; return each one's losses per epoch, accuracy and seconds of a step."""
    (x_train, y_train), (x_test, y_test) = datasets.digits.load_data()
    x_train, x_test = (jnp.asarray(x, jnp.float32).reshape(-1, 64) for x in (x_train, x_test))
    y_train, y_test = (jnp.asarray(y, jnp.int32) for y in (y_train, y_test))
    build = importlib.import_module(f"digits_{library}").build  # the other one may be absent
    states, steps, predictions = {}, {}, {}
    for name in ("plain", "fused"):
        states[name], steps[name], predictions[name] = build(fused=name == "fused")
    losses: dict[str, list[float]] = {name: [] for name in states}
    seconds: dict[str, list[float]] = {name: [] for name in states}
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        totals = dict.fromkeys(states, 0.0)
        whole = len(x_train) // batch_size
        order = rng.permutation(len(x_train))[: whole * batch_size].reshape(whole, batch_size)
        for batch in order:
            x, labels = x_train[batch], y_train[batch]
            for name, step in steps.items():
                start = time.perf_counter()
                states[name], loss = jax.block_until_ready(step(states[name], x, labels))
                seconds[name].append(time.perf_counter() - start)
                totals[name] += float(loss) / whole
        for name in states:
            losses[name].append(totals[name])
    results: dict[str, dict[str, Any]] = {}
    for name, predict in predictions.items():
        right = float((predict(states[name], x_test).argmax(1) == y_test).mean())
        step_time = statistics.median(seconds[name])
        results[name] = {"losses": losses[name], "accuracy": right, "step": step_time}
        curve = " ".join(f"{loss:.4f}" for loss in losses[name])
        print(f"{name:5}: test accuracy {right:.3f}, {1e3 * step_time:.2f} ms a step, {curve}")
    return results


if __name__ == "__main__":
    main(*sys.argv[1:])
