"""What a model makes of its layers: fused steps, and memory that is allocated once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from fusednn import utils
from fusednn.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Input,
    Layer,
    LeakyReLU,
    ReLU,
)
from fusednn.layers.batch_norm_steps import NormStep
from fusednn.layers.step import Step
from fusednn.models import Sequential, plan
from fusednn.optimizers import SGD, Adam


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def small_model() -> Sequential:
    return Sequential(
        [Input((4,)), Dense(5), BatchNormalization(), LeakyReLU(), Dense(3, activation="softmax")]
    )


# ---- fusion


def unfused(
    steps: Iterable[Step], input_shape: tuple[int, ...]
) -> tuple[list[Step], list[tuple[int, ...]]]:
    """Stand in for `plan.fuse`: every layer by itself."""
    listed = list(steps)
    shapes = [input_shape]
    for step in listed:
        shapes.append(step.output_shape(shapes[-1]))
    return listed, shapes


RECTIFIERS: dict[str, Callable[[], Layer]] = {
    "LeakyReLU": LeakyReLU,
    "ReLU": ReLU,
    "Activation relu": lambda: Activation("relu"),
    "Activation leaky_relu": lambda: Activation("leaky_relu"),
}


@pytest.mark.parametrize("rectifier", RECTIFIERS)
def test_normalisation_and_rectifier_are_one_step(rectifier: str) -> None:
    layers = [Dense(5, use_bias=False), BatchNormalization(), RECTIFIERS[rectifier](), Dense(3)]
    model = Sequential([Input((4,)), *layers])
    for training in (True, False):
        made = model._plan(8, training=training)
        assert len(made._forward_steps) == 3
        assert isinstance(made._forward_steps[1], NormStep)
        assert made._forward_steps[1].negative_slope is not None
    assert model.layers == layers


@pytest.mark.parametrize("rectifier", RECTIFIERS)
def test_fused_and_unfused_have_the_same_bits(
    rectifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[np.ndarray]:
        utils.set_random_seed(3)
        model = Sequential([Input((6,))])
        for _ in range(2):
            model.add(Dense(9, use_bias=False))
            model.add(BatchNormalization(momentum=0.5))
            model.add(RECTIFIERS[rectifier]())
        model.add(Dense(3, activation="softmax"))
        model.compile(SGD(0.1), "sparse_categorical_crossentropy")
        x, y = normal(33, 6), np.arange(33) % 3
        for _ in range(4):
            model.train_on_batch(x, y)
        return [*model.get_weights(), model.predict(x, verbose=0)]

    fused = run()
    with monkeypatch.context() as patch:
        patch.setattr(plan, "fuse", unfused)
        apart = run()
    for a, b in zip(fused, apart, strict=True):
        np.testing.assert_array_equal(a, b)


def test_leaving_the_bias_out_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Sequential:
        utils.set_random_seed(3)
        model = Sequential([Input((6,)), Dense(9, bias_initializer="ones"), BatchNormalization()])
        model.add(Dense(3))
        model.compile(SGD(0.1), "mse")
        for _ in range(5):
            model.train_on_batch(normal(32, 6), normal(32, 3, seed=1))
        return model

    fused = run()
    with monkeypatch.context() as patch:
        patch.setattr(plan, "fuse", unfused)
        apart = run()
    for a, b in zip(fused.weights, apart.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=a.path)


def test_no_gradient_below_the_first_layer_that_trains() -> None:
    model = Sequential([Input((4,)), Dense(5), LeakyReLU(), Dense(6), Activation("tanh"), Dense(3)])
    model.layers[0].trainable = False
    model.compile(SGD(0.1), "mse")
    made = model._plan(8, training=True)
    assert made._backward_steps[-1].kernel is model.layers[2].kernel
    assert made._backward_steps[-1]._grad_x is None
    frozen = model.layers[0].get_weights()
    before = model.layers[2].get_weights()
    model.train_on_batch(normal(8, 4), normal(8, 3))
    np.testing.assert_array_equal(model.layers[0].kernel, frozen[0])
    assert not np.array_equal(model.layers[2].kernel, before[0])


# ---- memory


def test_steps_after_the_first_allocate_nothing_large() -> None:
    model = Sequential([Input((128,))])
    for _ in range(3):
        model.add(Dense(256))
        model.add(BatchNormalization())
        model.add(LeakyReLU())
        model.add(Dropout(0.1))
    model.add(Dense(256, activation="tanh"))
    model.add(Dense(4, activation="softmax"))
    model.compile(Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = normal(512, 128), np.arange(512) % 4
    for _ in range(2):
        model.train_on_batch(x, y)
        model.test_on_batch(x, y)
    tracemalloc.start()
    model.train_on_batch(x, y)
    model.test_on_batch(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One activation has 512 KiB. What is left are a few arrays of the size of output or labels.
    assert peak < 64 * 1024


def test_a_plan_for_each_batch_size_is_kept() -> None:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(normal(70, 4), np.arange(70) % 3, batch_size=32, epochs=2, verbose=0)
    first, last = model._plan(32, training=True), model._plan(6, training=True)
    y = first.forward(normal(32, 4))
    assert model._plan(32, training=True) is first
    assert np.shares_memory(y, first.forward(normal(32, 4, seed=1)))
    assert first is not last
    for size in range(1, 20):
        model.predict(normal(size, 4), batch_size=size, verbose=0)
    assert len(model._plans) <= 8
