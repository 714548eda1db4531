"""Gradients of every weight of a small model against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fusednn import utils
from fusednn.layers import Dense, Input, Layer
from fusednn.models import Sequential
from fusednn.optimizers import SGD


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def around(
    stack: Sequence[Layer], sample: tuple[int, ...], loss: str = "mse", units: int = 4
) -> Sequential:
    """A float64 model around the layers, with weights away from 0, whose steps change nothing."""
    utils.set_random_seed(1)
    model = Sequential(
        [Input(sample), Dense(units, dtype="float64"), *stack, Dense(3, "tanh", dtype="float64")]
    )
    for i, variable in enumerate(model.weights):
        spread = 0.1 if variable.name == "moving_mean" else 0.5
        offset = 1.0 if variable.name in ("gamma", "moving_variance") else 0.0
        variable.assign(offset + spread * normal(*variable.shape, seed=i).clip(-1.5, 1.5))
    model.compile(SGD(0.0), loss)
    return model


def check_gradients(model: Sequential, x: np.ndarray, y: np.ndarray, step: float = 1e-6) -> None:
    """Compare what a training step leaves in each variable with differences of the loss."""

    def loss() -> float:
        utils.set_random_seed(2)  # the same dropout mask every time
        value = model.train_on_batch(x, y)
        return value if isinstance(value, float) else value[0]

    loss()
    gradients = [variable.grad.copy() for variable in model.trainable_weights]
    for variable, gradient in zip(model.trainable_weights, gradients, strict=True):
        numeric = np.empty_like(gradient)
        for index in np.ndindex(*variable.shape):
            value = variable.value[index]
            variable.value[index] = value + step
            above = loss()
            variable.value[index] = value - step
            numeric[index] = (above - loss()) / (2 * step)
            variable.value[index] = value
        np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8, err_msg=variable.path)


def check_stack(make: Callable[[], Sequence[Layer]], sample: tuple[int, ...]) -> None:
    """`check_gradients` of the model around freshly made layers."""
    model = around(make(), sample)
    outputs = model.output_shape[1:]
    check_gradients(model, normal(6, *sample, seed=5), normal(6, *outputs, seed=6))
