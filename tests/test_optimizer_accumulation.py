"""Steps of several calls, steps that are left out, and gradients of scaled losses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusednn.callbacks import BackupAndRestore, LambdaCallback
from fusednn.layers import Dense, Input
from fusednn.models import Sequential
from fusednn.optimizers import SGD, Adagrad, Adam, Adamax, AdamW, Nadam, RMSprop
from fusednn.utils import set_random_seed
from fusednn.variable import Variable
from optimizer_variables import make_gradients, make_variables, values

ALL = [SGD, Adagrad, RMSprop, Adam, AdamW, Adamax, Nadam]


@pytest.mark.parametrize("cls", ALL)
def test_a_step_by_the_mean_of_four_gradients(rng, cls):
    variables = make_variables(rng)
    twins = [Variable(v.numpy()) for v in variables]
    summed, plain = cls(0.1, gradient_accumulation_steps=4), cls(0.1)
    for _ in range(3):
        grads = [make_gradients(rng, variables) for _ in range(4)]
        for each in grads[:3]:
            before = values(variables)
            summed.apply(each, variables)
            for a, b in zip(before, values(variables), strict=True):
                np.testing.assert_array_equal(a, b)
        summed.apply(grads[3], variables)
        plain.apply([sum(g) / np.float32(4) for g in zip(*grads, strict=True)], twins)
    assert (summed.iterations, summed.calls) == (3, 12)
    for a, b in zip(variables, twins, strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-4, atol=1e-5)


def test_a_scaled_loss(rng):
    variables = make_variables(rng)
    twins = [Variable(v.numpy()) for v in variables]
    scaled, plain = Adam(0.1, loss_scale_factor=8.0), Adam(0.1)
    assert scaled.scale_loss(3.0) == 24.0
    grads = make_gradients(rng, variables)
    scaled.apply([g * np.float32(8) for g in grads], variables)
    plain.apply(grads, twins)
    for a, b in zip(variables, twins, strict=True):
        np.testing.assert_array_equal(a.value, b.value)


@pytest.mark.parametrize("rates", [(1.0, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize("every", [None, 2])
def test_steps_that_are_not_finite_are_left_out(rng, rates, every):
    variables = make_variables(rng, [(5,), (3,)])
    for variable, rate in zip(variables, rates, strict=True):
        variable.learning_rate_multiplier = rate
    optimizer = Adam(skip_nonfinite=True, gradient_accumulation_steps=every)
    good, bad = make_gradients(rng, variables), make_gradients(rng, variables)
    bad[1][0] = np.inf
    for _ in range(every or 1):
        optimizer.apply(good, variables)
    before = values(variables)
    for _ in range(every or 1):
        optimizer.apply(bad, variables)
    assert (optimizer.iterations, optimizer.skipped) == (1, 1)
    for a, b in zip(before, values(variables), strict=True):
        np.testing.assert_array_equal(a, b)
    for _ in range(every or 1):
        optimizer.apply(good, variables)
    assert optimizer.iterations == 2
    assert all(np.isfinite(v.value).all() for v in variables)


def test_small_steps_of_bfloat16_add_up(rng):
    moved = []
    for seed in (7, 7, None):
        variable = Variable(np.ones(1000), dtype=ml_dtypes.bfloat16)
        optimizer = SGD(1e-4, stochastic_rounding_seed=seed)
        for _ in range(100):
            optimizer.apply([np.ones(1000, ml_dtypes.bfloat16)], [variable])
        moved.append(variable.numpy().astype(np.float32))
    assert abs(moved[0].mean() - 0.99) < 2e-3
    np.testing.assert_array_equal(moved[0], moved[1])
    assert (moved[2] == 1).all()


def test_the_configuration_tells_of_what_is_set():
    options = {"gradient_accumulation_steps": 3, "loss_scale_factor": 2.0, "skip_nonfinite": True}
    assert not options.keys() & Adam().get_config().keys()
    assert Adam.from_config(Adam(**options).get_config()).get_config().items() >= options.items()


def test_a_run_that_ends_between_two_steps_goes_on_with_the_same_bits(tmp_path):
    x = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)

    def run(stop):
        set_random_seed(1)
        model = Sequential([Input((5,)), Dense(4), Dense(5)])
        model.compile(Adam(0.01, gradient_accumulation_steps=3), "mse")

        def halt(batch, logs):
            if model.optimizer.calls == stop:
                raise KeyboardInterrupt

        callbacks = [
            BackupAndRestore(tmp_path, save_freq=1),
            LambdaCallback(on_train_batch_begin=halt),
        ]
        model.fit(x, x, batch_size=16, epochs=4, verbose=0, callbacks=callbacks)
        return model.get_weights()

    expected = run(-1)
    with pytest.raises(KeyboardInterrupt):
        run(8)
    for a, b in zip(expected, run(-1), strict=True):
        np.testing.assert_array_equal(a, b)
