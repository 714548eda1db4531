"""Arguments of compile, what a compiled model tells, and rates set through the backend."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from fusednn import backend, utils
from fusednn.layers import BatchNormalization, Dense, Input
from fusednn.models import Sequential
from fusednn.optimizers import SGD, Adam, Nadam, schedules

X = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
Y = np.arange(7) % 3


def model_of(*arguments: Any, **options: Any) -> Sequential:
    model = Sequential([Input((5,)), Dense(4), BatchNormalization(), Dense(3, "softmax")])
    model.compile(*arguments, **options)
    return model


LOSS = "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("sgd", LOSS, None, ["accuracy"]), {}),
        (("sgd", LOSS, ["accuracy"]), {}),
        (("sgd", LOSS), {"metrics": ["accuracy"], "loss_weights": 1.0}),
        (("sgd", [LOSS], [1], ["accuracy"], None, True, 1, False, False), {}),
    ],
)
def test_orders_of_compile(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    model = model_of(*arguments, **options)
    assert model.metrics_names == ["loss", "accuracy"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"loss": [LOSS, LOSS]}, "`loss` must be of the one output that a model has here"),
        ({"loss": {"elsewhere": LOSS}}, "`loss` must name the model's output, 'dense_1'"),
        ({"loss": LOSS, "loss_weights": [1.0, 2.0]}, "`loss_weights` must be of the one output"),
        ({"loss": LOSS, "loss_weights": float("nan")}, "`loss_weights` must be"),
        ({"loss": LOSS, "metrics": {"a": [], "b": []}}, "`metrics` must be of the one output"),
        ({"loss": LOSS, "steps_per_execution": 0}, "`steps_per_execution` must be"),
    ],
)
def test_refusals_of_compile(arguments: dict[str, Any], match: str) -> None:
    model = model_of("sgd", LOSS)
    model.layers[-1].name = "dense_1"
    optimizer = model.optimizer
    with pytest.raises(ValueError, match=match):
        model.compile("adam", **arguments)
    assert model.optimizer is optimizer


def test_arguments_of_the_one_output() -> None:
    for loss, metrics in [
        ([LOSS], [["accuracy"]]),
        ({"out": LOSS}, {"out": "accuracy"}),
        ((LOSS,), {"out": ["accuracy"]}),
    ]:
        model = Sequential([Input((5,)), Dense(3, "softmax", name="out")])
        model.compile("sgd", loss, metrics=metrics)
        assert model.metrics_names == ["loss", "accuracy"]
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("weight", [0.25, [0.25], {"out": 0.25}])
def test_a_weight_of_the_loss_is_one_of_its_gradients_and_of_what_is_reported(weight: Any) -> None:
    def trained(rate: float, loss_weights: Any) -> tuple[Sequential, dict[str, Any]]:
        utils.set_random_seed(0)
        model = Sequential([Input((5,)), Dense(3, "softmax", name="out")])
        model.compile(SGD(rate), LOSS, loss_weights, metrics=["accuracy"])
        return model, model.fit(X, Y, epochs=3, batch_size=2, verbose=0).history

    model, weighted = trained(1.0, weight)
    plain, expected = trained(0.25, None)
    np.testing.assert_array_equal(model.get_weights()[0], plain.get_weights()[0])
    np.testing.assert_allclose(weighted["loss"], np.multiply(expected["loss"], 0.25), rtol=1e-6)
    assert weighted["accuracy"] == expected["accuracy"]


def test_metrics_of_a_model() -> None:
    model = Sequential([Input((5,)), Dense(3, "softmax")])
    assert model.metrics == []
    model = model_of("sgd", LOSS, metrics=["accuracy", "sparse_categorical_crossentropy"])
    loss, *others = model.evaluate(X, Y, verbose=0)
    assert [metric.name for metric in model.metrics] == model.metrics_names
    assert [metric.result() for metric in model.metrics] == [loss, *others]
    assert model.metrics[0].count == 7
    model.reset_metrics()
    assert [metric.result() for metric in model.metrics] == [0, 0, 0]


def test_variables_of_an_optimizer() -> None:
    model = model_of(Adam(0.25), LOSS)
    assert [v.name for v in model.optimizer.variables] == ["iteration", "learning_rate"]
    model.fit(X, Y, verbose=0)
    found = model.optimizer.variables
    layer = model.layers[0].name
    assert [v.path for v in found[:4]] == [
        "adam/iteration",
        "adam/learning_rate",
        f"adam/{layer}_kernel_momentum",
        f"adam/{layer}_kernel_velocity",
    ]
    assert len(found) == 2 + 2 * 6
    assert int(found[0]) == 1
    assert float(found[1]) == 0.25
    np.testing.assert_array_equal(found[2], model.optimizer.states["momentum"][0])
    found[2].assign(np.ones((5, 4)))
    np.testing.assert_array_equal(model.optimizer.states["momentum"][0], 1)
    found[0].assign(9)
    assert model.optimizer.iterations == 9
    with pytest.raises(ValueError, match=r"must have the shape of 'adam/.*_kernel_momentum'"):
        found[2].assign(1)
    followed = SGD(schedules.ExponentialDecay(0.1, 3, 0.5))
    assert [v.name for v in followed.variables] == ["iteration"]
    assert len(Nadam().variables) == 2


def test_rates_set_through_the_backend() -> None:
    model = model_of(SGD(0.5), LOSS)
    rate = model.optimizer.learning_rate
    backend.set_value(model.optimizer.learning_rate, 0.25)
    assert model.optimizer.learning_rate == 0.25
    assert rate == 0.5
    assert backend.get_value(model.optimizer.learning_rate) == 0.25
    assert type(backend.get_value(model.optimizer.learning_rate)) is float
    backend.set_value(model.optimizer.lr, np.float32(0.125))
    assert model.optimizer.learning_rate.numpy() == 0.125
    model.optimizer.learning_rate.assign(0.0625)
    assert model.optimizer.learning_rate == 0.0625
    backend.set_value(model.optimizer.variables[0], 5)
    assert model.optimizer.iterations == 5
    for copied in (copy.deepcopy(rate), copy.copy(rate), pickle.loads(pickle.dumps(rate))):
        assert type(copied) is float
    with pytest.raises(TypeError, match="`value` must be a number for a rate"):
        backend.set_value(model.optimizer.learning_rate, [0.1])
    with pytest.raises(ValueError, match="`learning_rate` must be a finite number >= 0"):
        backend.set_value(model.optimizer.learning_rate, -1)
    scheduled = SGD(schedules.ExponentialDecay(0.1, 3, 0.5))
    with pytest.raises(TypeError, match="follows a schedule and cannot be set"):
        backend.set_value(scheduled.learning_rate, 0.1)


def test_changes_of_trainable_without_compile_are_told() -> None:
    model = model_of(SGD(0.1), LOSS)
    first = model.layers[0]
    first.trainable = False
    before = first.get_weights()[0]
    message = f"`trainable` of {first.name} was changed after the model was compiled"
    with pytest.warns(UserWarning, match=message):
        model.fit(X, Y, verbose=0)
    with pytest.warns(UserWarning, match=message):
        model.train_on_batch(X, Y)
    assert not np.array_equal(before, first.get_weights()[0])
    model.compile(SGD(0.1), LOSS)
    before = first.get_weights()[0]
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(before, first.get_weights()[0])


def test_there_is_no_functional_api() -> None:
    with pytest.raises(TypeError, match=r"`x` must be an array, for there is no functional API"):
        Dense(3)(Input(8))


def text_of(model: Any, **options: Any) -> str:
    printed: list[str] = []
    model.summary(print_fn=printed.append, **options)
    return printed[0]


def test_refusals_of_summary() -> None:
    model = model_of("sgd", LOSS)
    with pytest.raises(ValueError, match="`positions` must hold 3 ends of columns"):
        model.summary(positions=[0.5, 1.0])
    with pytest.raises(ValueError, match="`positions` must leave columns of 4 characters"):
        model.summary(positions=[0.5, 0.51, 1.0])
    with pytest.raises(ValueError, match="`layer_range` must hold two names of layers"):
        model.summary(layer_range=["dense"])
    with pytest.raises(ValueError, match="`layer_range` must hold names of layers: "):
        model.summary(layer_range=["dense", "other"])
    first, last = model.layers[0].name, model.layers[1].name
    rows = text_of(model, layer_range=[first, last])
    assert first in rows
    assert last in rows
    assert f"{model.layers[2].name} (Dense)" not in rows
