"""Learning rate schedules: formulas, corners, configurations, inside an optimizer."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import optimizers
from fusednn.data import Dataset, PyDataset
from fusednn.layers import Dense, Input
from fusednn.models import Sequential, find_learning_rate
from fusednn.optimizers import SGD, Adam, schedules
from fusednn.optimizers.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    OneCycle,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
from fusednn.variable import Variable
from gradient_check import normal

EVERY = [
    ExponentialDecay(0.1, 20, 0.5),
    ExponentialDecay(0.1, 20, 0.5, staircase=True),
    InverseTimeDecay(0.1, 20, 0.5),
    InverseTimeDecay(0.1, 20, 0.5, staircase=True, name="mine"),
    PiecewiseConstantDecay([10, 20.5], [1.0, 0.5, 0.1]),
    PolynomialDecay(0.1, 30),
    PolynomialDecay(0.1, 30, 0.01, power=2.0, cycle=True),
    CosineDecay(0.1, 30, 0.2),
    CosineDecay(0.0, 30, 0.2, warmup_target=0.1, warmup_steps=10),
    CosineDecayRestarts(0.1, 10),
    CosineDecayRestarts(0.1, 10, t_mul=1.0, m_mul=0.5, alpha=0.1),
    OneCycle(1.0, 50),
]


def test_formulas() -> None:
    for step in (0, 1, 7, 20, 97):
        assert EVERY[0](step) == pytest.approx(0.1 * 0.5 ** (step / 20))
        assert EVERY[1](step) == pytest.approx(0.1 * 0.5 ** (step // 20))
        assert EVERY[2](step) == pytest.approx(0.1 / (1 + 0.5 * step / 20))
        assert EVERY[5](step) == pytest.approx(0.0001 + 0.0999 * max(0, 1 - step / 30))
        angle = np.pi * min(step / 30, 1)
        assert EVERY[7](step) == pytest.approx(0.1 * (0.2 + 0.8 * (1 + np.cos(angle)) / 2))


def test_corners() -> None:
    piecewise = EVERY[4]
    assert [piecewise(s) for s in (0, 10, 11, 20, 21, 1000)] == [1, 1, 0.5, 0.5, 0.1, 0.1]
    assert PiecewiseConstantDecay([], [0.5])(3) == 0.5
    cycle = EVERY[6]
    assert cycle(30) == pytest.approx(0.01)
    assert cycle(31) == pytest.approx(0.01 + 0.09 * (1 - 31 / 60) ** 2)
    warm = EVERY[8]
    assert [warm(s) for s in (0, 5, 10)] == pytest.approx([0, 0.05, 0.1])
    assert warm(40) == warm(1000) == pytest.approx(0.02)
    restarts = CosineDecayRestarts(1.0, 10, m_mul=0.5)
    assert [restarts(s) for s in (0, 10, 30, 70)] == pytest.approx([1, 0.5, 0.25, 0.125])
    assert restarts(20) == pytest.approx(0.25)
    one = OneCycle(1.0, 50, pct_start=0.3)
    assert one(0) == pytest.approx(1 / 25)
    assert one(14) == pytest.approx(1.0)
    assert one(49) == one(1000) == pytest.approx(1 / 25 / 1e4)
    at_once = OneCycle(1.0, 10, pct_start=0.1)  # the rise takes no step at all
    assert [at_once(0), at_once(9)] == pytest.approx([1.0, 1 / 25 / 1e4])
    assert OneCycle(1.0, 10, pct_start=0.1, three_phase=True)(0) == pytest.approx(1 / 25)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_configuration(schedule: LearningRateSchedule) -> None:
    entry = json.loads(json.dumps(schedules.serialize(schedule)))
    again = schedules.deserialize(entry)
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    optimizer = Adam(schedule)
    config = json.loads(json.dumps(optimizers.serialize(optimizer)))
    twin = optimizers.get(config)
    assert twin.get_config() == optimizer.get_config()
    for step in (0, 3, 60):
        optimizer.iterations = twin.iterations = step
        assert twin.learning_rate == optimizer.learning_rate == schedule(step)


def test_optimizers_follow_their_schedules() -> None:
    variable = Variable(np.zeros(3), name="v")
    optimizer = SGD(PiecewiseConstantDecay([1], [1.0, 0.25]))
    for _ in range(4):
        optimizer.apply([np.ones(3)], [variable])
    np.testing.assert_allclose(variable.value, -2.5)
    with pytest.raises(TypeError, match="`learning_rate` follows a schedule"):
        optimizer.learning_rate = 0.1


def test_decay_of_keras_2() -> None:
    variable = Variable(np.zeros(3), name="v")
    optimizer = SGD(0.5, decay=0.25)
    expected = 0.0
    for step in range(5):
        assert optimizer.learning_rate == 0.5
        optimizer.apply([np.ones(3)], [variable])
        expected -= 0.5 / (1 + 0.25 * step)
        np.testing.assert_allclose(variable.value, expected)
    assert optimizer.get_config()["decay"] == 0.25
    assert SGD.from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    assert "decay" not in SGD().get_config()
    with pytest.raises(ValueError, match="`decay` must be a finite number >= 0"):
        SGD(decay=-1.0)


def test_refusals() -> None:
    for make in (ExponentialDecay, InverseTimeDecay):
        with pytest.raises(ValueError, match="`decay_steps` must be a finite number > 0"):
            make(0.1, 0, 0.5)
        with pytest.raises(ValueError, match=r"`initial_learning_rate` must be .* >= 0"):
            make(-0.1, 1, 0.5)
    with pytest.raises(ValueError, match="`values` must hold one number more than `boundaries`"):
        PiecewiseConstantDecay([1], [0.1])
    with pytest.raises(ValueError, match="`boundaries` must increase"):
        PiecewiseConstantDecay([2, 2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"`values\[1\]` must be a finite number >= 0"):
        PiecewiseConstantDecay([2], [0.1, -0.2])
    with pytest.raises(ValueError, match="`t_mul` must be a finite number >= 1"):
        CosineDecayRestarts(0.1, 10, t_mul=0.5)
    with pytest.raises(ValueError, match="`total_steps` must be a finite number >= 2"):
        OneCycle(0.1, 1)
    with pytest.raises(ValueError, match=r"`pct_start` must be in \[0, 0.5\]"):
        OneCycle(0.1, 10, pct_start=0.6, three_phase=True)
    with pytest.raises(ValueError, match="`anneal_strategy` must be 'cos' or 'linear'"):
        OneCycle(0.1, 10, anneal_strategy="exp")
    with pytest.raises(ValueError, match="`schedule` must be a schedule object"):
        SGD.from_config({"learning_rate": {"class_name": "Nope", "config": {}}})
    with pytest.raises(TypeError, match="`step` must be a number"):
        EVERY[0]("1")
    with pytest.raises(NotImplementedError, match="must define `rate`"):
        LearningRateSchedule()(0)


# ---- the range test


def compiled(optimizer: optimizers.Optimizer) -> Sequential:
    model = Sequential([Input((6,)), Dense(8, "tanh"), Dense(2)])
    model.compile(optimizer, "mse")
    return model


DATA = normal(256, 6), normal(256, 2, seed=1)


@pytest.mark.parametrize("rate", [0.1, EVERY[0]], ids=["number", "schedule"])
def test_the_range_test_leaves_the_model_alone(rate: float | LearningRateSchedule) -> None:
    model = compiled(SGD(rate, momentum=0.9, use_ema=True))
    model.fit(*DATA, verbose=0)
    before, iterations = model.get_weights(), model.optimizer.iterations
    states = copy.deepcopy(model.optimizer.states)
    test = find_learning_rate(model, *DATA, steps=60)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.optimizer.iterations == iterations
    for a, b in zip(states["momentum"], model.optimizer.states["momentum"], strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.optimizer.learning_rate == (rate if isinstance(rate, float) else rate(iterations))
    assert len(test.rates) == len(test.losses) <= 60
    np.testing.assert_allclose(test.rates[:2], [1e-6, 1e-6 * 1e7 ** (1 / 59)])


def test_the_suggestion_trains_and_much_more_does_not() -> None:
    x = normal(512, 6)
    y = x @ normal(6, 2, seed=3)
    model = compiled(SGD(0.01))
    test = find_learning_rate(model, x, y, steps=150)
    assert len(test.losses) < 150  # it ended where the loss exploded
    assert 1e-3 < test.suggestion < 1
    model.compile(SGD(test.suggestion), "mse")
    history = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


def endless() -> Iterator[Any]:
    while True:
        yield DATA[0][:32], DATA[1][:32]


@pytest.mark.parametrize("kind", ["dataset", "without end", "py_dataset", "generator"])
def test_the_range_test_of_batches(kind: str) -> None:
    class ByNumber(PyDataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return DATA[0][32 * index :][:32], DATA[1][32 * index :][:32]

    data = Dataset.from_tensor_slices(DATA).batch(32)
    sources = {"dataset": data, "without end": data.repeat(), "py_dataset": ByNumber()}
    model = compiled(SGD(0.1))
    before = model.get_weights()
    test = find_learning_rate(model, sources.get(kind, endless()), max_rate=0.1, steps=40)
    assert len(test.losses) == 40
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
    if kind == "dataset":
        with pytest.raises(ValueError, match="`y` must not be given where `x` is a Dataset"):
            find_learning_rate(model, data, DATA[1])


def test_the_range_test_ends_where_a_generator_does() -> None:
    batches = (batch for batch, _ in zip(endless(), range(7), strict=False))
    assert len(find_learning_rate(compiled(SGD()), batches).losses) == 7
    with pytest.raises(ValueError, match="`y` must be given where `x` is an array"):
        find_learning_rate(compiled(SGD()), DATA[0])


def test_refusals_of_the_range_test() -> None:
    model = compiled(SGD())
    with pytest.raises(ValueError, match=r"`max_rate` must be a finite number > 1"):
        find_learning_rate(model, *DATA, min_rate=1.0, max_rate=0.5)
    with pytest.raises(ValueError, match="`steps` must be at least 2"):
        find_learning_rate(model, *DATA, steps=1)
    with pytest.raises(ValueError, match="`stop_factor` must be a finite number > 1"):
        find_learning_rate(model, *DATA, stop_factor=1.0)
    with pytest.raises(TypeError, match="`model` must be a Sequential"):
        find_learning_rate("model", *DATA)
    with pytest.raises(ValueError, match="must be compiled first"):
        find_learning_rate(Sequential([Dense(2)]), *DATA)
    with pytest.raises(ValueError, match="not finite before any step"):
        find_learning_rate(model, np.full((9, 6), np.nan), np.zeros((9, 2)))


def test_copies_of_optimizers_know_their_variables() -> None:
    model = compiled(SGD(0.1, use_ema=True, ema_momentum=0.5))
    model.layers[0].kernel.constraint = None
    model.train_on_batch(*DATA)
    twin = copy.deepcopy(model)
    twin.optimizer.finalize_variable_values(twin.trainable_variables)
    np.testing.assert_array_equal(twin.get_weights()[0], twin.optimizer.averages[0])
    with pytest.raises(ValueError, match="Unknown variable"):
        twin.optimizer.finalize_variable_values(model.trainable_variables)


def test_a_schedule_of_the_user_without_a_configuration(tmp_path: Path) -> None:
    class Hyperbola(LearningRateSchedule):
        def __init__(self, start: float) -> None:
            self.start = start

        def __call__(self, step: Any) -> float:
            return self.start / (1 + step)

    model = Sequential([Input((3,)), Dense(1)])
    model.compile(SGD(Hyperbola(0.1)), "mse")
    model.fit(normal(8, 3), normal(8, 1, seed=1), batch_size=2, verbose=0)
    assert model.optimizer is not None
    assert model.optimizer.learning_rate == pytest.approx(0.02)
    assert repr(model.optimizer) == "SGD(...)"
    for ending in ("keras", "h5"):
        with pytest.raises(NotImplementedError, match="Hyperbola must define `get_config`"):
            model.save(tmp_path / f"model.{ending}")
    assert not list(tmp_path.iterdir())
