"""What differs between Keras' backends: how a call is made at its fastest."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fusednn.benchmarks.inputs import Array

ON_JAX = keras.backend.backend() == "jax"

if ON_JAX:
    import jax
else:
    import torch


def to_tensor(array: Array) -> Any:
    """Return the backend's own copy of an array."""
    if ON_JAX:
        return jax.device_put(np.array(array), jax.devices("cpu")[0])
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def jitted(function: Any, *, donated: tuple[int, ...] = ()) -> Any:
    """Compile a function where the backend is JAX."""
    return jax.jit(function, donate_argnums=donated) if ON_JAX else function


def wait_for(result: Any) -> None:
    """Wait until a result is complete."""
    if ON_JAX:
        jax.block_until_ready(result)


class Pure:
    """A model's call: a jitted pure function on JAX, a call without gradients on torch."""

    def __init__(self, model: Any, *, training: bool) -> None:
        self._model = model
        self._training = training
        self._values = [[v.value for v in model.trainable_variables]]
        self._values += [[v.value for v in model.non_trainable_variables]]
        if ON_JAX:
            self._call = jitted(lambda t, n, x: model.stateless_call(t, n, x, training=training))
        self._latest: Any = None

    def run(self, x: Any) -> None:
        """Call the model."""
        if ON_JAX:
            self._latest = self._call(*self._values, x)
        else:
            with torch.no_grad():
                self._latest = (self._model(x, training=self._training),)

    def result(self) -> Any:
        """Return the latest output."""
        return self._latest[0]

    def wait(self) -> None:
        """Wait for it."""
        wait_for(self._latest)
