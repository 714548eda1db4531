"""Layers that learn at rates of their own: one model, one optimizer, as many steps as rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import ops, utils
from fusednn.layers import BatchNormalization, Dense, Input, LeakyReLU
from fusednn.models import Sequential, clone_model, load_model
from fusednn.optimizers import SGD, Adagrad, Adam, Adamax, AdamW, Nadam, Optimizer, RMSprop
from fusednn.optimizers.schedules import InverseTimeDecay
from fusednn.variable import Variable

RNG = np.random.default_rng(0)
X = RNG.standard_normal((97, 7)).astype(np.float32)
Y = RNG.integers(0, 3, 97)
SHAPES = ((5, 19), (19,), (1,), (0, 3), (7, 97))
MULTIPLIERS = (0.1, 0.1, 1.0, 0.0, 2.0)

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": SGD,
    "nesterov": lambda rate: SGD(rate, momentum=0.9, nesterov=True),
    "adagrad": Adagrad,
    "rmsprop": lambda rate: RMSprop(rate, centered=True, momentum=0.5, epsilon=1e-3),
    "adam": lambda rate: Adam(rate, clipnorm=0.5),
    "amsgrad": lambda rate: Adam(rate, amsgrad=True, clipvalue=0.3),
    "adamw": lambda rate: AdamW(rate, weight_decay=0.2),
    "adamax": lambda rate: Adamax(rate, use_ema=True),
    "nadam": Nadam,
    "8 bits": lambda rate: Adam(rate, quantized_states=True),
}


def variables(dtype: Any = np.float32) -> list[Variable]:
    rng = np.random.default_rng(3)
    return [Variable(rng.standard_normal(shape).astype(dtype)) for shape in SHAPES]


def gradients(step: int, dtype: Any = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(step)
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]


def assert_same(ours: list[Variable], theirs: list[Variable]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine.value, other.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_as_one_optimizer_for_each_rate(name: str, dtype: Any) -> None:
    if name == "8 bits" and dtype is np.float64:
        pytest.skip("8-bit states are not for float64")
    make = OPTIMIZERS[name]
    ours, theirs = variables(dtype), variables(dtype)
    for variable, multiplier in zip(ours, MULTIPLIERS, strict=True):
        variable.learning_rate_multiplier = multiplier
    optimizer = make(0.05)
    apart = {multiplier: make(0.05 * multiplier) for multiplier in set(MULTIPLIERS)}
    for step in range(7):
        grads = gradients(step, dtype)
        optimizer.apply(grads, ours)
        for multiplier, other in apart.items():
            places = [i for i, m in enumerate(MULTIPLIERS) if m == multiplier]
            other.apply([grads[i] for i in places], [theirs[i] for i in places])
    assert_same(ours, theirs)
    assert optimizer.iterations == 7


def test_schedules_and_decay() -> None:
    for rate, options in ((InverseTimeDecay(0.1, 3, 0.5), {}), (0.1, {"decay": 0.2})):
        ours, theirs = variables(), variables()
        ours[0].learning_rate_multiplier = 0.25
        optimizer, half = SGD(rate, **options), SGD(rate, **options)
        for step in range(5):
            grads = gradients(step)
            optimizer.apply(grads, ours)
            half.apply([grads[0] / 4, *grads[1:]], theirs)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.value, other.value, rtol=1e-5, atol=1e-6)


def test_the_global_norm_is_that_of_all_variables() -> None:
    ours, theirs = variables(), variables()
    ours[0].learning_rate_multiplier = 0.5
    optimizer = SGD(0.1, global_clipnorm=1.0)
    for step in range(3):
        grads = gradients(step)
        optimizer.apply(grads, ours)
        share = 1 / max(ops.global_norm(grads), 1.0)
        for grad, variable, rate in zip(grads, theirs, (0.05, *[0.1] * 4), strict=True):
            variable.assign(variable.value - rate * share * grad)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.value, other.value, rtol=1e-5, atol=1e-6)


def test_a_change_takes_effect_at_the_next_step() -> None:
    """Also where the optimizer knows the lists of the step before."""
    ours, theirs = variables(), variables()
    optimizer, first, rest = (SGD(0.1, momentum=0.9) for _ in range(3))
    grads, own = tuple(gradients(0)), tuple(ours)
    calls = []
    step = optimizer.step

    def counted(params: list[Any], *arguments: Any, **options: Any) -> None:
        calls.append(len(params))
        step(params, *arguments, **options)

    optimizer.step = counted  # type: ignore[method-assign]
    for multiplier in (1.0, 0.5, 0.5, 1.0):
        for variable in ours[:2]:
            variable.learning_rate_multiplier = multiplier
        optimizer.apply(grads, own)
        first.learning_rate = 0.1 * multiplier
        first.apply(grads[:2], theirs[:2])
        rest.apply(grads[2:], theirs[2:])
    assert_same(ours, theirs)
    assert calls == [5, 2, 3, 2, 3, 5]


def network() -> Sequential:
    utils.set_random_seed(1)
    return Sequential(
        [Input((7,)), Dense(9), BatchNormalization(), LeakyReLU(), Dense(3, "softmax")]
    )


def trained(model: Sequential, optimizer: Optimizer, epochs: int = 2) -> Sequential:
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=epochs, verbose=0, shuffle=False)
    return model


def test_layers_of_a_model() -> None:
    model = network()
    before = model.get_weights()
    model.layers[0].learning_rate_multiplier = 0.0
    trained(model, Adam(0.01))
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert np.any(before[2] != after[2])
    assert np.any(before[4] != after[4])  # a rate of 0 is not frozen: statistics move
    # Before any weights are made, too.
    late = Sequential([Dense(4), Dense(3, "softmax")])
    late.layers[0].learning_rate_multiplier = 0.25
    late.build((None, 7))
    assert [v.learning_rate_multiplier for v in late.weights] == [0.25, 0.25, 1.0, 1.0]


def test_of_all_layers_at_once() -> None:
    model = network()
    model.learning_rate_multiplier = 0.5
    assert model.learning_rate_multiplier == 0.5
    trained(model, SGD(0.2))
    other = trained(network(), SGD(0.1))
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.layers[0].learning_rate_multiplier = 0.1
    assert model.learning_rate_multiplier == [0.1, 0.5, 0.5, 0.5]
    assert Sequential().learning_rate_multiplier == 1.0


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_copies_and_files_keep_it(tmp_path: Path, ending: str) -> None:
    model = network()
    for i, layer in enumerate(model.layers):
        layer.learning_rate_multiplier = 0.5 ** (3 - i)
    trained(model, Adam(0.01))
    path = tmp_path / f"model{ending}"
    model.save(path)
    want = [0.125, 0.25, 0.5, 1.0]
    loaded = load_model(path)
    for copy in (loaded, clone_model(model), Sequential.from_config(model.get_config())):
        assert [layer.learning_rate_multiplier for layer in copy.layers] == want
        assert [v.learning_rate_multiplier for v in copy.layers[0].weights] == [0.125] * 2
    if ending == ".keras":
        for each in (model, loaded):
            each.fit(X, Y, epochs=1, verbose=0, shuffle=False)
        for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_refusals(value: float) -> None:
    model = network()
    message = "`learning_rate_multiplier` must be a finite number >= 0. Received"
    for owner in (model, model.layers[0], model.weights[0]):
        with pytest.raises(ValueError, match=message):
            owner.learning_rate_multiplier = value
    with pytest.raises(TypeError, match="`learning_rate_multiplier` must be a number"):
        model.layers[0].learning_rate_multiplier = "slow"  # type: ignore[assignment]
    assert model.learning_rate_multiplier == 1.0
