"""The optimizer classes' hyper-parameters: which are refused, and how they become dictionaries."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fusednn import layers, optimizers
from fusednn.optimizers import SGD, Adagrad, Adam, Adamax, AdamW, Nadam, RMSprop

EVERY = [SGD, Adagrad, RMSprop, Adam, AdamW, Adamax, Nadam]


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (SGD, {"learning_rate": -0.1}, r"`learning_rate` must be .* >= 0. Received: .*=-0.1"),
        (SGD, {"learning_rate": float("nan")}, r"`learning_rate` must be a finite .*=nan"),
        (SGD, {"momentum": 1.5}, r"`momentum` must be in \[0, 1\]. Received: momentum=1.5"),
        (SGD, {"momentum": float("nan")}, r"`momentum` must be in \[0, 1\]. Received: .*=nan"),
        (SGD, {"weight_decay": -1.0}, "`weight_decay` must be a finite number >= 0"),
        (SGD, {"weight_decay": float("inf")}, "`weight_decay` must be a finite number >= 0"),
        (SGD, {"clipnorm": -1.0}, "`clipnorm` must be a finite number >= 0"),
        (SGD, {"clipvalue": float("nan")}, "`clipvalue` must be a finite number >= 0"),
        (SGD, {"global_clipnorm": -1}, "`global_clipnorm` must be a finite number >= 0"),
        (SGD, {"ema_momentum": 1.1}, r"`ema_momentum` must be in \[0, 1\]"),
        (SGD, {"ema_overwrite_frequency": 0}, "`ema_overwrite_frequency` must be an integer >= 1"),
        (SGD, {"clipnorm": 1.0, "clipvalue": 1.0}, "Only one of `clipnorm`, `clipvalue` and"),
        (Adagrad, {"initial_accumulator_value": -0.1}, "`initial_accumulator_value` must be"),
        (Adagrad, {"epsilon": float("nan")}, "`epsilon` must be a finite number >= 0"),
        (RMSprop, {"rho": -0.1}, r"`rho` must be in \[0, 1\]"),
        (RMSprop, {"momentum": 2}, r"`momentum` must be in \[0, 1\]"),
        (RMSprop, {"epsilon": -1e-7}, "`epsilon` must be a finite number >= 0"),
        (Adam, {"beta_1": 1.0}, r"`beta_1` must be in \[0, 1\). Received: beta_1=1.0"),
        (Adamax, {"beta_1": 1.0}, r"`beta_1` must be in \[0, 1\)"),
        (Nadam, {"epsilon": -1.0}, "`epsilon` must be"),
        (Adamax, {"quantized_states": True}, "`quantized_states` must be False for Adamax"),
        (Adam, {"beta_2": -0.1}, r"`beta_2` must be in \[0, 1\)"),
        (Adam, {"epsilon": float("nan")}, "`epsilon` must be"),
    ],
)
def test_hyper_parameters_are_refused_by_name(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options)


def test_wrong_types_are_refused_by_name():
    with pytest.raises(TypeError, match=r"`learning_rate` must be a number. Received: .*='fast'"):
        SGD("fast")
    with pytest.raises(TypeError, match=r"`momentum` must be a number. Received: momentum=True"):
        SGD(momentum=True)
    with pytest.raises(TypeError, match=r"`weight_decay` must be a number. Received: .*=None"):
        AdamW(weight_decay=None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'moment'"):
        SGD(moment=0.9)
    with pytest.raises(ValueError, match="`iterations` must be an integer >= 0"):
        SGD().iterations = -1


# Serialisation.


@pytest.mark.parametrize("cls", EVERY)
def test_config_makes_an_equal_optimizer(cls):
    optimizer = cls(learning_rate=0.02, weight_decay=0.03, clipnorm=2.0, use_ema=True, name="mine")
    config = json.loads(json.dumps(optimizer.get_config()))
    assert cls.from_config(config).get_config() == optimizer.get_config()
    entry = json.loads(json.dumps(optimizers.serialize(optimizer)))
    again = optimizers.get(entry)
    assert type(again) is cls
    assert again.get_config() == optimizer.get_config()


def test_config_of_keras_with_options_that_are_off():
    unset = {"loss_scale_factor": None, "gradient_accumulation_steps": None}
    config = SGD(0.5).get_config() | unset
    assert SGD.from_config(config).learning_rate == 0.5
    assert SGD.from_config(config | {"gradient_accumulation_steps": 2}).calls == 0


def test_a_schedule_stays_in_the_config():
    def schedule(step):
        return 0.5

    assert SGD.from_config(SGD(schedule).get_config()).learning_rate == 0.5


@pytest.mark.parametrize(
    ("identifier", "cls"),
    [
        ("sgd", SGD),
        ("SGD", SGD),
        ("Adam", Adam),
        ("adamw", AdamW),
        ("adamax", Adamax),
        ("Nadam", Nadam),
        ("adagrad", Adagrad),
        ("rmsprop", RMSprop),
        ("RMSProp", RMSprop),
        (Adam, Adam),
    ],
)
def test_get(identifier, cls):
    assert type(optimizers.get(identifier)) is cls


def test_get_keeps_an_object_and_refuses_the_rest():
    optimizer = SGD()
    assert optimizers.get(optimizer) is optimizer
    assert optimizers.RMSProp is RMSprop
    for wrong in ("adamm", None, 3, {"class_name": "Lion"}):
        with pytest.raises(ValueError, match=r"`optimizer` must be an optimizer object, class or"):
            optimizers.get(wrong)


def test_accumulation_scale_and_seed_are_checked():
    SGD(loss_scale_factor=None, gradient_accumulation_steps=None)
    for wrong in (1, -2, 2.5, True):
        with pytest.raises(ValueError, match=r"`gradient_accumulation_steps` must be an integer"):
            SGD(gradient_accumulation_steps=wrong)
    with pytest.raises(ValueError, match=r"`loss_scale_factor` must be a finite number > 0"):
        SGD(loss_scale_factor=0.0)
    with pytest.raises(ValueError, match=r"`stochastic_rounding_seed` must be in"):
        SGD(stochastic_rounding_seed=2**64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimizers.SGD(momentm=0.1), r"SGD\(\) .* 'momentm'\. Did you mean 'momentum'\?"),
        (
            lambda: optimizers.AdamW(clipnrom=1),
            r"AdamW\(\) .* 'clipnrom'\. Did you mean 'clipnorm'\?",
        ),
        (lambda: layers.Dense(3, activaton="relu"), r"Dense\(\) .* Did you mean 'activation'\?"),
        (lambda: layers.Dropout(0.5, q=1), r"Dropout\(\) got an unexpected .* 'q'$"),
    ],
)
def test_unknown_arguments_name_who_was_called(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
