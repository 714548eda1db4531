"""What differs between Keras' backends: how a call is made at its fastest."""

from __future__ import annotations

from collections.abc import Callable
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
        # JAX may take the memory of what it is given for its own: here of a copy.
        return jax.device_put(np.array(array), jax.devices("cpu")[0])
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def as_array(tensor: Any) -> Array:
    """Return what a tensor holds; of short types as float32."""
    if keras.backend.standardize_dtype(tensor.dtype) != "float64":
        tensor = keras.ops.cast(tensor, "float32")
    array: Array = keras.ops.convert_to_numpy(tensor)
    return array


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


class Gradients:
    """A model's pass back to its input and weights, alone or after the forward pass.

    On JAX a pure function by ``jax.vjp``, jitted, which Keras' documentation shows for training
    loops; on torch autograd. Alone it starts from what one forward pass left.
    """

    _call: Callable[[], Any]

    def __init__(self, model: Any, x: Any, grad: Any, *, alone: bool) -> None:
        self._grad = grad
        self._latest: tuple[Any, Any] = (None, None)
        if ON_JAX:
            self._prepare_jax(model, x, alone=alone)
        else:
            self._prepare_torch(model, x, alone=alone)

    def _prepare_jax(self, model: Any, x: Any, *, alone: bool) -> None:
        trainable = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]

        def forward(trainable: Any, x: Any) -> Any:
            return model.stateless_call(trainable, others, x, training=True)

        def both(trainable: Any, x: Any, grad: Any) -> Any:
            pull: Any
            y, pull, moved = jax.vjp(forward, trainable, x, has_aux=True)
            return y, pull(grad), moved

        if alone:
            linearised = jitted(lambda t, x: jax.vjp(forward, t, x, has_aux=True)[1])
            pull: Any = linearised(trainable, x)
            back: Any = jitted(lambda pull, grad: pull(grad))
            self._call = lambda: (None, back(pull, self._grad))
        else:
            whole = jitted(both)
            self._call = lambda: whole(trainable, x, self._grad)[:2]

    def _prepare_torch(self, model: Any, x: Any, *, alone: bool) -> None:
        x.requires_grad_()
        leaves = [*(v.value for v in model.trainable_variables), x]
        kept = model(x, training=True) if alone else None

        def call() -> Any:
            y = model(x, training=True) if kept is None else kept
            *weights, grad_x = torch.autograd.grad(y, leaves, self._grad, retain_graph=alone)
            return y.detach(), (weights, grad_x)

        self._call = call

    def run(self) -> None:
        """Compute y, unless alone, and the gradients."""
        self._latest = self._call()

    def results(self) -> dict[str, Any]:
        """Return what was computed."""
        y, (weights, grad_x) = self._latest
        results = {"grad_x": grad_x} if y is None else {"y": y, "grad_x": grad_x}
        # Of layers without weights there are no more.
        return results | dict(zip(("grad_gamma", "grad_beta"), weights, strict=bool(weights)))

    def wait(self) -> None:
        """Wait for it."""
        wait_for(self._latest)
