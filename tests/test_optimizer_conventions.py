"""What sets the frameworks apart: what each lacks, its defaults, its first step, its decay."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import reference as ref
from fusednn import _core, ops

FLAGS = ("nesterov", "centered", "amsgrad", "bias_correction", "eps_in_sqrt")
# What a framework does without asking.
ALWAYS = {"bias_correction": ["adam"], "eps_in_sqrt": ["keras", "tf1"]}


def one_step(make, kind, convention, options, **how):
    """The arrays after a step with what states it needs, from the same place each time."""
    make.rng = np.random.default_rng(7)
    params, grads = [make.normal((97,), np.float64)], [make.normal((97,), np.float64, std=1e-6)]
    needed = ref.OPTIMIZERS[kind].states.items()
    names = [name for name, by in needed if by in (None, "momentum") or options.get(by)]
    states = {name: [make.uniform((97,), np.float64)] for name in names}
    before = [a.copy() for a in (*params, *(arrays[0] for arrays in states.values()))]
    how = {"step": 3, "convention": convention, **how}
    try:
        ops.optimizer_step(kind, params, grads, states, {"lr": 0.1, **options}, **how)
    except ValueError:
        for now, then in zip((*params, *(a[0] for a in states.values())), before, strict=True):
            np.testing.assert_array_equal(now, then)
        raise
    return params[0]


def lacking():
    for kind, convention in ref.PAIRS:
        names = set(_core.optimizer_hyperparameters(kind)) - {"lr"}
        for name in sorted(names - ref.own_hyperparameters(kind, convention)):
            yield kind, convention, name


@pytest.mark.parametrize(("kind", "convention", "name"), list(lacking()))
def test_what_a_framework_lacks_is_refused(make, kind, convention, name):
    """But what it does anyway may be said."""
    always = not {kind, convention}.isdisjoint(ALWAYS.get(name, ()))
    wrong = (not always) if name in FLAGS else 0.5
    has, must = ("always has it", 1) if always else ("does not have it", 0)
    message = f"`{name}` must be {must}: the {convention} convention of {kind} {has}. Received: "
    with pytest.raises(ValueError, match=f"^{message}{name}={wrong:g}$"):
        one_step(make, kind, convention, {name: wrong})
    one_step(make, kind, convention, {name: must})


def test_every_hyperparameter_belongs_to_some_framework():
    assert set(ref.FORMULAS) == set(_core.optimizer_names()) & set(ref.OPTIMIZERS)
    assert list(ref.CONVENTIONS) == _core.convention_names()
    for kind in ref.OPTIMIZERS:
        known = {"lr"}.union(*(ref.own_hyperparameters(k, c) for k, c in ref.PAIRS if k == kind))
        assert known == set(_core.optimizer_hyperparameters(kind))


@pytest.mark.parametrize(("kind", "convention"), ref.PAIRS)
def test_every_hyperparameter_is_in_the_cases_of_its_framework(kind, convention):
    """Which the comparisons with formulas and with the packages themselves go through."""
    cases = ref.own_cases(kind, convention)
    named = {name for options in cases for name in options}
    assert named == ref.own_hyperparameters(kind, convention)
    assert {} in cases
    if "nesterov" in named:
        assert any(options.get("nesterov") and options.get("momentum") for options in cases)


MISSING = [(k, c) for k in ref.OPTIMIZERS for c in ref.CONVENTIONS if (k, c) not in ref.PAIRS]


@pytest.mark.parametrize(("kind", "convention"), MISSING)
def test_an_optimizer_that_a_framework_lacks_is_refused(make, kind, convention):
    known = ", ".join(c for k, c in ref.PAIRS if k == kind)
    message = (
        f"`convention` must be one of {known} for {kind}: {convention} has no such optimizer. "
        f"Received: convention={convention}"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        one_step(make, kind, convention, {})


def test_which_optimizers_are_missing():
    """Of what `MISSING` is made of; an empty list would pass."""
    missing = {"rmsprop": ["onnx"], "adamax": ["tf1", "onnx"], "nadam": ["tf1", "onnx", "mlx"]}
    assert [(kind, c) for kind, absent in missing.items() for c in absent] == MISSING


@pytest.mark.parametrize(("kind", "convention"), ref.PAIRS)
def test_defaults_are_the_frameworks(make, kind, convention):
    """One by one: in bits what is given by name is what is taken where it is not."""
    expected = one_step(make, kind, convention, {})
    parameters = inspect.signature(ref.FORMULAS[kind][convention]).parameters
    for name in ref.own_hyperparameters(kind, convention):
        given = {name: parameters[name].default}
        np.testing.assert_array_equal(one_step(make, kind, convention, given), expected)
    absent = dict.fromkeys(_core.optimizer_hyperparameters(kind)[1:])
    np.testing.assert_array_equal(one_step(make, kind, convention, absent), expected)


@pytest.mark.parametrize(("kind", "convention"), ref.PAIRS)
def test_the_default_of_decoupled_weight_decay(make, kind, convention):
    by_default, coupled, decoupled = (
        one_step(make, kind, convention, {}, weight_decay=0.5, decoupled_weight_decay=how)
        for how in (None, False, True)
    )
    assert not np.array_equal(coupled, decoupled)
    own = decoupled if ref.decouples_decay(kind, convention) else coupled
    np.testing.assert_array_equal(by_default, own)


@pytest.mark.parametrize(("kind", "convention"), ref.PAIRS)
def test_the_first_step_is_one_or_in_onnx_zero(make, kind, convention):
    first = 0 if convention == "onnx" else 1
    one_step(make, kind, convention, {}, step=first)
    message = f"^`step` must be at least {first}. Received: step={first - 1}$"
    for steps in (first - 1, [first - 1]):
        with pytest.raises(ValueError, match=message):
            one_step(make, kind, convention, {}, step=steps)


@pytest.mark.parametrize("convention", ref.CONVENTIONS)
def test_the_average_is_a_copy_at_the_first_step_and_no_later(convention):
    first = ref.step_number(convention, 1)
    params, ema = [np.zeros(3)], [np.full(3, np.nan)]
    how = {"lr": 1.0, "convention": convention, "ema": ema, "ema_momentum": 0.75}
    for step in (first, first + 1):
        ops.sgd_step(params, [np.full(3, 4.0)], None, step=step, **how)
    np.testing.assert_array_equal(ema[0], 0.75 * -4 + 0.25 * -8)


@pytest.mark.parametrize("convention", ref.CONVENTIONS)
def test_what_is_added_to_a_norm(convention):
    params = [np.zeros(1), np.zeros(1)]
    how = {"step": 1, "lr": 1.0, "convention": convention, "max_norm": 1e-6}
    ops.sgd_step(params, [np.array([3e-6]), np.array([4e-6])], None, **how)
    factor = 1 / (6 if convention in ("torch", "mlx") else 5)
    np.testing.assert_allclose(params, [[-3e-6 * factor], [-4e-6 * factor]], rtol=1e-14)


@pytest.mark.parametrize(("eps", "grad"), [(1e-7, 1e-30), (0.0, 0.0)])
def test_optax_adagrad_stands_still_where_the_sum_is_zero(eps, grad):
    """Where g^2 vanishes too; the others divide by the root of epsilon, or of nothing."""
    how = {"step": 1, "lr": 1e25, "eps": eps}
    for convention in ("optax", "keras"):
        params, sums = [np.ones(9, np.float32)], [np.zeros(9, np.float32)]
        ops.adagrad_step(params, [np.full(9, grad, np.float32)], sums, convention=convention, **how)
        assert (params[0] == 1).all() == (convention == "optax")


@pytest.mark.parametrize(("kind", "convention"), ref.PAIRS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_changing_learning_rate(make, kind, convention, dtype):
    """Where the rate is inside the buffer, it stays with the gradients that it met."""
    options = ref.own_cases(kind, convention)[-1]
    params = [make.normal((97,), dtype)]
    exact = [p.astype(np.float64) for p in params]
    exact_states = ref.initial_states(kind, params, options)
    states = {name: [a.astype(dtype) for a in arrays] for name, arrays in exact_states.items()}
    for nth in range(1, 41):
        grads = [make.normal((97,), dtype)]
        how = {"step": ref.step_number(convention, nth), "lr": 0.1 * (1 + nth % 7) / nth}
        how |= {"convention": convention, **options}
        ref.call_step(ops, kind, params, grads, states, **how)
        ref.optimizer_step(kind, exact, grads, exact_states, **how)
    ref.assert_near(params[0], exact[0], ulps=50, scale=np.abs(exact[0]) + 1)


def test_steps_before_and_after_the_onnx_correction():
    """At T = 0 there is none; at T = 1 that of the first update elsewhere."""
    moved = {}
    for convention, step in (("onnx", 0), ("onnx", 1), ("tf1", 1)):
        params, zeros = [np.zeros(1)], [[np.zeros(1)] for _ in range(2)]
        how = {"step": step, "lr": 1.0, "eps": 0.0, "convention": convention}
        ops.adam_step(params, [np.ones(1)], *zeros, **how)
        moved[convention, step] = -params[0][0]
    assert moved["onnx", 0] == pytest.approx(0.1 / 0.001**0.5)
    assert moved["onnx", 1] == moved["tf1", 1] == pytest.approx(1.0)
