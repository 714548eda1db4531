"""Gradients of Keras' functions, by the backend in use: Keras has none of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]


def values_and_gradient(
    function: Callable[[Any], Any], x: Any, grad: Any = None
) -> tuple[Array, Array]:
    """Return ``function(x)``, and the gradient of its sum or of ``sum(grad * function(x))``."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        value, pull_back = jax.vjp(function, np.asarray(x))
        start = np.ones(value.shape, value.dtype) if grad is None else grad
        return np.asarray(value), np.asarray(pull_back(start)[0])
    if backend == "torch":
        import torch

        tensor = torch.tensor(x, requires_grad=True)
        value = function(tensor)
        start = torch.ones_like(value) if grad is None else torch.tensor(grad)
        value.backward(start)
        assert tensor.grad is not None
        return value.detach().numpy(), tensor.grad.numpy()
    pytest.skip(f"no gradients are taken through backend {backend}")
    raise AssertionError
