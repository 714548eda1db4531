"""The optimizer classes with states in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn.optimizers import SGD, Adagrad, Adam, AdamW, Nadam, RMSprop
from fusednn.variable import Variable
from optimizer_variables import SHAPES, assert_resumes, make_variables, values

QUANTIZED = [
    (SGD, {"momentum": 0.9}, {"momentum": True}),
    (Adagrad, {}, {"accumulator": False}),
    (RMSprop, {"momentum": 0.5}, {"velocity": False, "momentum": True}),
    (Adam, {}, {"momentum": True, "velocity": False}),
    (Nadam, {}, {"momentum": True, "velocity": False}),
    (AdamW, {"weight_decay": 0.1}, {"momentum": True, "velocity": False}),
]


@pytest.mark.parametrize(("cls", "own", "signed"), QUANTIZED, ids=ref.case_id)
def test_quantized_states(rng, cls, own, signed):
    """Each state has the codes that suit it, and trajectories lead where those in 32 bits do."""
    variables = make_variables(rng, [(40, 50), (300,), (0, 3)])
    twins = [Variable(v.numpy()) for v in variables]
    aim = values(variables)
    for v in (*variables, *twins):
        v.assign(v.value + 1)
    short = cls(0.02, quantized_states=True, use_ema=True, **own)
    exact = cls(0.02, **own)
    short.build(variables)
    assert {name: states[0].signed for name, states in short.states.items()} == signed
    assert [s.shape for s in next(iter(short.states.values()))] == [v.shape for v in variables]
    assert short.averages[0].dtype == np.float32
    for _ in range(200):
        short.apply([v.value - a for v, a in zip(variables, aim, strict=True)])
        exact.apply([v.value - a for v, a in zip(twins, aim, strict=True)], twins)
    for i in (0, 1):
        for name in signed:
            nbytes = exact.states[name][i].nbytes
            assert short.states[name][i].nbytes < 0.26 * nbytes + 4
        gone = np.abs(twins[i].value - aim[i] - 1).mean()
        off = np.abs(variables[i].value - twins[i].value).mean()
        assert 0 < off < 0.1 * gone


def test_quantized_states_start_as_states_do(rng):
    optimizer = Adagrad(initial_accumulator_value=0.25, quantized_states=True)
    optimizer.build(make_variables(rng))
    for state, shape in zip(optimizer.states["accumulator"], SHAPES, strict=True):
        np.testing.assert_array_equal(state.dequantize(), np.full(shape, 0.25, np.float32))


@pytest.mark.parametrize(("cls", "option"), [(Adam, "amsgrad"), (RMSprop, "centered")])
def test_states_that_cannot_be_quantized(cls, option):
    message = f"`quantized_states` must be False with `{option}`.*Received: .*{option}=True"
    with pytest.raises(ValueError, match=message):
        cls(quantized_states=True, **{option: True})
    cls(quantized_states=True, **{option: False})


def test_no_quantized_states_for_float64(rng):
    optimizer = Adam(quantized_states=True)
    message = r"`quantized_states` must be False for float64 variables.*`layer/w0` of dtype float64"
    with pytest.raises(TypeError, match=message):
        optimizer.build(make_variables(rng, dtype=np.float64))
    assert not optimizer.built


def test_the_configuration_tells_of_quantized_states_where_they_are():
    """Keras would refuse the name."""
    assert "quantized_states" not in Adam().get_config()
    config = Adam(quantized_states=True).get_config()
    assert config["quantized_states"] is True
    assert Adam.from_config(config).get_config() == config


def test_quantized_states_and_iterations_resume_a_run(rng):
    def copy(mine, theirs):
        mine.codes[...], mine.scales[...] = theirs.codes, theirs.scales

    assert_resumes(rng, Adam(0.01, quantized_states=True), copy)
