"""The optimizer classes: trajectories, options, states, averages, bad calls."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn.optimizers import SGD, Adagrad, Adam, Adamax, AdamW, Nadam, RMSprop
from fusednn.variable import Variable
from optimizer_variables import SHAPES, assert_resumes, make_gradients, make_variables, values

# Class, its own options; the reference's row, the same options and states by its names.
CASES = [
    (SGD, {}, "sgd", {}),
    (SGD, {"momentum": 0.9}, "sgd", {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "nesterov": True}, "sgd", {"momentum": 0.9, "nesterov": True}),
    (SGD, {"nesterov": True}, "sgd", {}),
    (Adagrad, {}, "adagrad", {"eps": 1e-7}),
    (Adagrad, {"epsilon": 1e-2}, "adagrad", {"eps": 1e-2}),
    (RMSprop, {}, "rmsprop", {"rho": 0.9, "eps": 1e-7}),
    (
        RMSprop,
        {"rho": 0.8, "momentum": 0.5, "centered": True, "epsilon": 1e-2},
        "rmsprop",
        {"rho": 0.8, "momentum": 0.5, "centered": True, "eps": 1e-2},
    ),
    (Adam, {}, "adam", {"eps": 1e-7}),
    (
        Adam,
        {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3, "amsgrad": True},
        "adam",
        {"beta1": 0.8, "beta2": 0.99, "eps": 1e-3, "amsgrad": True},
    ),
    (Adamax, {}, "adamax", {"eps": 1e-7}),
    (Nadam, {}, "nadam", {"eps": 1e-7}),
    (AdamW, {"weight_decay": 0.1}, "adam", {"eps": 1e-7, "weight_decay": 0.1}),
]
COMMON = [
    ({}, {}),
    ({"weight_decay": 0.1}, {"weight_decay": 0.1}),
    ({"clipvalue": 0.5}, {"clip_value": 0.5}),
    ({"clipnorm": 1.0}, {"max_norm_each": 1.0}),
    ({"global_clipnorm": 1.5}, {"max_norm": 1.5}),
    ({"use_ema": True, "ema_momentum": 0.9}, {"ema_momentum": 0.9}),
]


@pytest.mark.parametrize(("common", "ref_common"), COMMON, ids=ref.case_id)
@pytest.mark.parametrize(("cls", "own", "kind", "ref_own"), CASES, ids=ref.case_id)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_200_steps_follow_the_reference(rng, cls, own, kind, ref_own, common, ref_common, dtype):
    variables = make_variables(rng, dtype=dtype)
    exact = [v.value.astype(np.float64) for v in variables]
    options = {**ref_own, **ref_common}
    states = ref.initial_states(kind, exact, options)
    optimizer = cls(learning_rate=0.01, **{**own, **common})
    for step in range(1, 201):
        grads = make_gradients(rng, variables)
        optimizer.apply(grads, variables)
        ref.optimizer_step(
            kind, exact, grads, states, step=step, lr=0.01, convention="keras", **options
        )
    assert optimizer.iterations == 200
    tolerance = 2e-4 if dtype == np.float32 else 1e-11
    for variable, want in zip(variables, exact, strict=True):
        np.testing.assert_allclose(variable.value, want, rtol=tolerance, atol=tolerance)
    for average, want in zip(optimizer.averages or (), states.get("ema", ()), strict=True):
        np.testing.assert_allclose(average, want, rtol=tolerance, atol=tolerance)


def test_defaults_are_those_of_keras():
    assert SGD().get_config() == {
        "name": "sgd",
        "learning_rate": 0.01,
        "weight_decay": None,
        "clipnorm": None,
        "clipvalue": None,
        "global_clipnorm": None,
        "use_ema": False,
        "ema_momentum": 0.99,
        "ema_overwrite_frequency": None,
        "momentum": 0.0,
        "nesterov": False,
    }
    own = {
        Adagrad: {"initial_accumulator_value": 0.1, "epsilon": 1e-7},
        RMSprop: {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False},
        Adam: {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False},
        AdamW: {"weight_decay": 0.004, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    }
    for cls, expected in own.items():
        assert cls().get_config().items() >= {"learning_rate": 0.001, **expected}.items()
    assert Adagrad().initial_states() == {"accumulator": 0.1}


def test_states_are_only_those_needed(rng):
    assert list(SGD().initial_states()) == []
    assert list(SGD(momentum=0.5).initial_states()) == ["momentum"]
    assert list(RMSprop().initial_states()) == ["velocity"]
    both = RMSprop(momentum=0.1, centered=True)
    assert list(both.initial_states()) == ["velocity", "momentum", "average_gradient"]
    assert list(Adam().initial_states()) == ["momentum", "velocity"]
    assert list(Adam(amsgrad=True).initial_states()) == ["momentum", "velocity", "velocity_hat"]
    adam = Adam()
    assert not adam.built
    assert adam.states == {}
    variables = make_variables(rng)
    adam.build(variables)
    assert adam.built
    assert [s.shape for s in adam.states["velocity"]] == list(SHAPES)
    assert {s.dtype for s in adam.states["velocity"]} == {np.dtype(np.float32)}
    accumulators = Adagrad()
    accumulators.build(make_variables(rng, dtype=np.float64))
    assert accumulators.states["accumulator"][0].dtype == np.float64
    assert (accumulators.states["accumulator"][0] == 0.1).all()


def test_one_call_updates_the_whole_list(rng, monkeypatch):
    calls = []
    step = Adam.step
    monkeypatch.setattr(Adam, "step", lambda *a, **k: (calls.append(a), step(*a, **k)))
    variables = make_variables(rng)
    optimizer = Adam()
    for _ in range(3):
        optimizer.apply(make_gradients(rng, variables), variables)
    assert len(calls) == 3
    assert all(len(call[1]) == len(SHAPES) for call in calls)
    assert calls[0][1] is calls[2][1]  # the lists of arrays are built once


def test_updates_are_in_place(rng):
    variables = make_variables(rng)
    arrays = [v.value for v in variables]
    before = values(variables)
    SGD(0.5).apply(make_gradients(rng, variables), variables)
    assert all(v.value is a for v, a in zip(variables, arrays, strict=True))
    assert not np.array_equal(arrays[0], before[0])


# Learning rate.


def test_lr_is_an_alias():
    assert Adam(lr=0.25).learning_rate == 0.25
    optimizer = SGD(0.5)
    assert optimizer.lr == 0.5
    optimizer.lr = 0.125
    assert optimizer.learning_rate == 0.125
    with pytest.raises(ValueError, match=r"give one of them. Received: lr=0.1, learning_rate=0.2"):
        SGD(0.2, lr=0.1)


def test_learning_rate_may_change_during_training(rng):
    (variable,) = make_variables(rng, [(3,)])
    optimizer = SGD(1.0)
    ones = np.ones(3, np.float32)
    start = variable.numpy()
    optimizer.apply([ones], [variable])
    optimizer.learning_rate = 0.25
    optimizer.apply([ones])
    np.testing.assert_allclose(variable.value, start - 1.25, rtol=1e-6)


def test_a_rate_may_be_a_function_of_nothing(rng):
    (variable,) = make_variables(rng, [(3,)])
    rates = iter([0.5, 0.25])
    optimizer = SGD(lambda: next(rates))
    start = variable.numpy()
    for change in (0.5, 0.75):
        optimizer.apply([np.ones(3, np.float32)], [variable])
        np.testing.assert_allclose(variable.value, start - change, rtol=1e-6)


def test_schedule_is_called_with_the_steps_taken(rng):
    (variable,) = make_variables(rng, [(3,)])
    seen = []
    optimizer = SGD(lambda step: seen.append(step) or 2.0**-step)
    start = variable.numpy()
    for _ in range(3):
        optimizer.apply([np.ones(3, np.float32)], [variable])
    assert seen == [0, 1, 2]
    np.testing.assert_allclose(variable.value, start - 1.75, rtol=1e-6)
    with pytest.raises(TypeError, match="`learning_rate` follows a schedule"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = lambda step: 0.0625
    assert optimizer.learning_rate == 0.0625


def test_bad_rate_of_a_schedule_changes_nothing(rng):
    (variable,) = make_variables(rng, [(3,)])
    before = variable.numpy()
    optimizer = SGD(lambda step: float("nan"), momentum=0.5)
    with pytest.raises(ValueError, match="`learning_rate` must be a finite number >= 0"):
        optimizer.apply([np.ones(3, np.float32)], [variable])
    np.testing.assert_array_equal(variable.value, before)
    assert optimizer.iterations == 0


# Weight decay.


def test_exclusion_from_weight_decay(rng):
    names = ("kernel", "bias", "gamma")
    variables = [Variable(np.full(4, 2.0, np.float32), name=name) for name in names]
    optimizer = SGD(0.5, weight_decay=0.25)
    optimizer.exclude_from_weight_decay(var_list=[variables[2]], var_names=["bias", "nothing"])
    optimizer.apply([np.zeros(4, np.float32)] * 3, variables)
    assert [v.value[0] for v in variables] == [2.0 - 2.0 * 0.25 * 0.5, 2.0, 2.0]
    with pytest.raises(ValueError, match="must be called before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


@pytest.mark.parametrize("limit", [0.5, 1e3], ids=["clips", "does_not_clip"])
def test_global_norm_spans_decayed_and_exempt_variables(rng, limit):
    split = make_variables(rng)
    whole = [Variable(v.numpy(), name=v.name) for v in split]
    grads = make_gradients(rng, split)
    exempting = Adam(0.01, global_clipnorm=limit, weight_decay=0.0)
    exempting.exclude_from_weight_decay(var_names=["w1"])
    plain = Adam(0.01, global_clipnorm=limit)
    for _ in range(3):
        exempting.apply(grads, split)
        plain.apply(grads, whole)
    for got, want in zip(split, whole, strict=True):
        np.testing.assert_allclose(got.value, want.value, rtol=1e-6, atol=1e-7)
    norms = [np.linalg.norm(m) for m in plain.states["momentum"]]
    expected = min(limit, ref.global_norm(grads)) * (1 - 0.9**3)
    np.testing.assert_allclose(np.linalg.norm(norms), expected, rtol=1e-5)


def test_failing_call_with_an_exclusion_changes_nothing(rng):
    variables = make_variables(rng, [(3,), (4,)])
    optimizer = SGD(0.5, weight_decay=0.1, momentum=0.9)
    optimizer.exclude_from_weight_decay(var_names=["w1"])
    optimizer.build(variables)
    before = values(variables)
    grads = [np.ones(3, np.float32), np.ones(5, np.float32)]
    with pytest.raises(ValueError, match=r"`grads\[1\]` must have the shape \(4,\)"):
        optimizer.apply(grads, variables)
    for value, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(variable.value, value)
    assert not any(m.any() for m in optimizer.states["momentum"])


# Moving averages.


def test_average_overwrites_at_its_frequency(rng):
    (variable,) = make_variables(rng, [(6,)], np.float64)
    optimizer = SGD(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3)
    p, average = variable.numpy(), None
    for step in range(1, 8):
        grad = rng.standard_normal(6)
        p = p - 0.1 * grad
        average = p if average is None else 0.75 * average + 0.25 * p
        if step % 3 == 0:
            p = average
        optimizer.apply([grad], [variable])
        np.testing.assert_allclose(variable.value, p, rtol=1e-12)
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.value, average, rtol=1e-12)


def test_finalize_without_average_or_steps_changes_nothing(rng):
    variables = make_variables(rng)
    before = values(variables)
    SGD().finalize_variable_values(variables)
    averaging = SGD(use_ema=True)
    averaging.finalize_variable_values(variables)
    averaging.build(variables)
    averaging.finalize_variable_values(variables)
    for value, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(variable.value, value)


def test_average_of_a_variable_without_gradient_moves_too(rng):
    a, b = make_variables(rng, [(3,), (4,)], np.float64)
    optimizer = SGD(0.1, use_ema=True, ema_momentum=0.5)
    with pytest.warns(UserWarning, match="No gradient was given for layer/w1"):
        optimizer.apply([np.ones(3), None], [a, b])
    b.assign(b.value + 1.0)
    optimizer.apply([np.ones(3)], [a])
    np.testing.assert_allclose(optimizer.averages[1], b.value - 0.5)


# What `apply` is given.


def test_gradients_may_be_missing(rng):
    variables = make_variables(rng, [(3,), (4,), (5,)])
    optimizer = Adam(0.1)
    optimizer.build(variables)
    before = values(variables)
    grads = [np.ones(3, np.float32), None, np.ones(5, np.float32)]
    with pytest.warns(UserWarning, match="No gradient was given for layer/w1"):
        optimizer.apply(grads, variables)
    moved = [not np.array_equal(v.value, b) for v, b in zip(variables, before, strict=True)]
    assert moved == [True, False, True]
    with pytest.raises(ValueError, match="must hold a gradient for some variable"):
        optimizer.apply([None, None, None])
    assert optimizer.iterations == 1


def test_some_variables_in_any_order(rng):
    variables = make_variables(rng, [(3,), (4,), (5,)])
    twins = [Variable(v.numpy()) for v in variables]
    grads = make_gradients(rng, variables)
    some, every = SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9)
    some.build(variables)
    some.apply([grads[2], grads[0]], [variables[2], variables[0]])
    every.apply([grads[0], np.zeros(4, np.float32), grads[2]], twins)
    for got, want in zip(variables, twins, strict=True):
        np.testing.assert_array_equal(got.value, want.value)
    with pytest.raises(ValueError, match="`variables` must be distinct"):
        some.apply([grads[0], grads[0]], [variables[0], variables[0]])


def test_apply_gradients_returns_iterations(rng):
    variables = make_variables(rng)
    optimizer = RMSprop()
    for count in (1, 2):
        pairs = zip(make_gradients(rng, variables), variables, strict=True)
        assert optimizer.apply_gradients(pairs) == count


def test_no_gradients_is_no_step():
    optimizer = SGD()
    optimizer.apply([])
    assert optimizer.apply_gradients([]) == 0
    assert not optimizer.built


def test_bad_calls_name_what_is_wrong(rng):
    variables = make_variables(rng, [(3,), (4,)])
    grads = make_gradients(rng, variables)
    with pytest.raises(ValueError, match="`variables` must be given where the optimizer is not"):
        SGD().apply(grads)
    optimizer = Adam()
    with pytest.raises(ValueError, match="Received: 1 gradients, 2 variables"):
        optimizer.apply(grads[:1], variables)
    with pytest.raises(ValueError, match=r"`grads\[1\]` must have the shape \(4,\) of `layer/w1`"):
        optimizer.apply([grads[0], grads[0]], variables)
    with pytest.raises(TypeError, match=r"`grads\[0\]` must be an array of the dtype float32"):
        optimizer.apply([grads[0].astype(np.float64), grads[1]], variables)
    with pytest.raises(TypeError, match=r"`grads\[0\]` .* Received: list"):
        optimizer.apply([[1.0, 2.0, 3.0], grads[1]], variables)
    assert not optimizer.built
    with pytest.raises(ValueError, match=r"`variables` must be distinct. Received: 2 variables"):
        optimizer.build([variables[0], variables[0]])
    optimizer.apply(grads, variables)
    with pytest.raises(ValueError, match="Unknown variable `stranger`"):
        optimizer.apply(grads[:1], [Variable(np.zeros(3, np.float32), name="stranger")])
    before = values(variables)
    with pytest.raises(ValueError, match=r"grads\[1\]"):
        optimizer.apply([grads[0], grads[0]], variables)
    with pytest.raises(TypeError, match=r"grads\[0\]"):
        optimizer.apply([grads[0].astype(np.float64), grads[1]], variables)
    for value, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(variable.value, value)
    assert optimizer.iterations == 1


def test_states_and_iterations_resume_a_run(rng):
    def copy(mine, theirs):
        mine[...] = theirs

    assert_resumes(rng, Adam(0.01, amsgrad=True), copy)
