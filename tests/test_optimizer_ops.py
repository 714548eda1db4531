"""The optimizer steps against the reference: trajectories, single steps, dtypes, lists, options."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn import ops

SIZES = ((0,), (1,), (7,), (97,), (3, 5, 7), (), (2_049,))


def as_dtype(arrays, dtype):
    return [a.astype(dtype) for a in arrays]


def exactly(arrays):
    return as_dtype(arrays, np.float64)


class Run:
    """A list of parameters with their states, stepped by the kernel and by the reference."""

    def __init__(self, make, kind, dtype, options, sizes=SIZES, convention="torch", lr=0.01):
        self.make, self.kind, self.dtype = make, kind, np.dtype(dtype)
        self.convention = convention
        self.how = {"convention": convention, "lr": lr} | options
        self.params = [make.normal(s, dtype) for s in sizes]
        # Magnitudes from 1e-2 to 1e2 within each tensor show where epsilon and decay are added.
        self.scales = [np.power(10, make.uniform(s, np.float64, -2, 2)) for s in sizes]
        states = ref.initial_states(kind, self.params, options)
        self.states = {n: as_dtype(a, ref.statistics_dtype(dtype)) for n, a in states.items()}
        self.follow()

    def follow(self):
        """Puts the reference where the kernel is."""
        self.exact = exactly(self.params)
        self.exact_states = {name: exactly(arrays) for name, arrays in self.states.items()}

    def ulps(self, name, ulps):
        """How near a state must come, with the power of beta2 in optax's maximum of v / c2.

        1 - beta2^t amplifies that power's rounding, which is one of doubles.
        """
        in_maximum = name == "max_exp_avg_sqs" and self.convention == "optax"
        amplified = in_maximum and self.dtype == np.float64
        return ulps / (1 - self.how.get("beta2", 0.999)) if amplified else ulps

    def gradients(self):
        return [
            np.asarray(s * self.make.normal(np.shape(s), np.float64)).astype(self.dtype)
            for s in self.scales
        ]

    def step(self, nth):
        """The n-th update, n from 1: of all arrays, or a list for each."""
        numbers = [ref.step_number(self.convention, n) for n in np.atleast_1d(nth).tolist()]
        grads = self.gradients()
        how = self.how | {"step": numbers if isinstance(nth, list) else numbers[0]}
        assert ref.call_step(ops, self.kind, self.params, grads, self.states, **how) is True
        assert ref.optimizer_step(self.kind, self.exact, grads, self.exact_states, **how)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("kind", "convention", "options"), list(ref.optimizer_cases()), ids=ref.case_id
)
def test_200_steps(make, kind, convention, options, dtype):
    run = Run(make, kind, dtype, options, ((0,), (7,), (5, 19)), convention)
    travelled = [np.zeros(p.shape) for p in run.exact]
    peaks = {name: [np.abs(a) for a in arrays] for name, arrays in run.exact_states.items()}
    for number in range(1, 201):
        before = [p.copy() for p in run.exact]
        run.step(number)
        for way, old, new in zip(travelled, before, run.exact, strict=True):
            way += np.abs(new - old)
        for name, arrays in run.exact_states.items():
            for peak, array in zip(peaks[name], arrays, strict=True):
                np.fmax(peak, np.abs(array), out=peak)
    # Each step rounds p once, and what it adds a few times; decay pulls both back.
    for got, want, way in zip(run.params, run.exact, travelled, strict=True):
        assert np.all(way > 0)
        ref.assert_near(got, want, ulps=50, scale=np.abs(want) + way)
    for name, arrays in run.states.items():
        for got, want, peak in zip(arrays, run.exact_states[name], peaks[name], strict=True):
            ref.assert_near(got, want, ulps=100, scale=peak)


def exact_step(kind, inputs, how):
    """What the reference makes of `inputs`: params, grads and states in float64 by name."""
    results = {name: [a.copy() for a in arrays] for name, arrays in inputs.items()}
    states = {name: a for name, a in results.items() if name not in ("params", "grads")}
    ref.optimizer_step(kind, results["params"], results.pop("grads"), states, **how)
    return results


def magnitudes(kind, inputs, how, h=1e-6):
    """The terms behind each result: how much a relative change of each input moves it, summed."""
    base = exact_step(kind, inputs, how)
    total = {name: [np.asarray(np.abs(a)) for a in arrays] for name, arrays in base.items()}
    for changed in inputs:
        nudged = inputs | {changed: [np.asarray((1 + h) * a) for a in inputs[changed]]}
        for name, arrays in exact_step(kind, nudged, how).items():
            for sum_, moved, still in zip(total[name], arrays, base[name], strict=True):
                sum_ += np.abs(moved - still) / h
    return base, total


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize(
    ("kind", "convention", "options"), list(ref.optimizer_cases()), ids=ref.case_id
)
def test_single_steps(make, kind, convention, options, dtype):
    check_single_steps(Run(make, kind, dtype, options, SIZES, convention))


def check_single_steps(run):
    """Each result is that of inputs a few roundings away, from where the kernel itself stands."""
    kind = run.kind
    for nth in (1, 2, 3, 17):
        grads = run.gradients()
        how = run.how | {"step": ref.step_number(run.convention, nth)}
        inputs = {"params": exactly(run.params), "grads": exactly(grads)}
        inputs |= {name: exactly(arrays) for name, arrays in run.states.items()}
        ref.call_step(ops, kind, run.params, grads, run.states, **how)
        expected, terms = magnitudes(kind, inputs, how)
        for name, arrays in {"params": run.params, **run.states}.items():
            for got, want, scale in zip(arrays, expected[name], terms[name], strict=True):
                # 1 - beta^t amplifies the rounding of the power, in the reference too.
                ref.assert_near(got, want, ulps=run.ulps(name, 16), scale=scale)


@pytest.mark.parametrize("states", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("grads", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("params", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
def test_mixed_dtypes(make, kind, params, grads, states):
    options = ref.OPTIMIZERS[kind].options[-1] | {"ema_momentum": 0.9, "weight_decay": 0.1}
    run = Run(make, kind, params, options)
    run.dtype = np.dtype(grads)
    run.states = {name: as_dtype(arrays, states) for name, arrays in run.states.items()}
    if states == "float16":
        run.scales = [scale / 10 for scale in run.scales]  # squares of more than 255 overflow
    check_single_steps(run)


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_large_tensors_on_all_threads(make, threads, kind, dtype):
    options = ref.OPTIMIZERS[kind].options[-1] | {"max_norm": 1.0}
    run = Run(make, kind, dtype, options, ((300_001,), (), (17, 1_001), (0, 4)))
    run.step(1)
    for got, want in zip(run.params, run.exact, strict=True):
        ref.assert_near(got, want, ulps=24, scale=np.abs(want) + 0.1)


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
def test_many_small_tensors(make, threads, kind):
    sizes = [(n % 37,) for n in range(1_000)]
    run = Run(make, kind, np.float32, ref.OPTIMIZERS[kind].options[-1], sizes)
    run.step(1)
    for got, want in zip(run.params, run.exact, strict=True):
        ref.assert_near(got, want, ulps=24, scale=np.abs(want) + 1)


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_misaligned_and_strided_arrays_change_no_bit(make, awkward, kind, dtype):
    options = ref.OPTIMIZERS[kind].options[-1]
    grads = [make.normal((9, 97), dtype)]
    results = []
    for place in (np.copy, make.offset):
        run = Run(make, kind, dtype, options, [(9, 97)])
        run.params = [place(np.full((9, 97), 0.75, dtype))]
        run.states = {k: [place(a) for a in v] for k, v in run.states.items()}
        given = grads if place is np.copy else [awkward(g) for g in grads]
        ref.call_step(ops, kind, run.params, given, run.states, step=2, **run.how)
        results.append([*run.params, *(a for v in run.states.values() for a in v)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("kind", "convention"), ref.PAIRS)
def test_a_step_number_for_each_tensor(make, kind, convention):
    own = {"lr_decay": 0.1} if "lr_decay" in ref.own_hyperparameters(kind, convention) else {}
    options = ref.own_cases(kind, convention)[-1] | own | {"ema_momentum": 0.5}
    run = Run(make, kind, np.float64, options, [(7,), (7,), (0,), (7,)], convention)
    for arrays in run.states.values():
        for array in arrays:
            array[...] = 0.25
    run.follow()
    run.step([1, 9, 3, 100])
    for got, want in zip(run.params, run.exact, strict=True):
        ref.assert_near(got, want, ulps=8, scale=1)
    for name, arrays in run.states.items():
        for got, want in zip(arrays, run.exact_states[name], strict=True):
            ref.assert_near(got, want, ulps=run.ulps(name, 8), scale=1)


@pytest.mark.parametrize("convention", ref.CONVENTIONS)
def test_late_steps(make, convention):
    """Bias corrections long after the start, where beta^t has vanished, and in between."""
    for nth in (1_000, 123_457, 2**31 + 1):
        run = Run(make, "adam", np.float64, {}, [(97,)], convention)
        run.step(nth)
        ref.assert_near(run.params[0], run.exact[0], ulps=8, scale=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
def test_skip_nonfinite_is_all_or_nothing(make, threads, kind, dtype, bad):
    options = ref.OPTIMIZERS[kind].options[-1] | {"ema_momentum": 0.5, "skip_nonfinite": True}
    run = Run(make, kind, dtype, options, ((7,), (0,), (3_000,)))
    grads = run.gradients()
    copies = [np.zeros(p.shape, np.float16) for p in run.params]
    everything = [*run.params, *copies, *(a for v in run.states.values() for a in v)]
    before = [a.copy() for a in everything]
    for place in (0, 1, -1):
        spoilt = [g.copy() for g in grads]
        spoilt[-1][place] = bad
        how = run.how | {"step": 1}
        if dtype == np.float32:
            how["low_precision_copies"] = copies
        assert ref.call_step(ops, kind, run.params, spoilt, run.states, **how) is False
        for now, then in zip(everything, before, strict=True):
            np.testing.assert_array_equal(now, then)
    assert ref.call_step(ops, kind, run.params, grads, run.states, **how) is True


def test_without_skip_nonfinite_a_nan_goes_where_it_belongs(make):
    params, grads = [make.normal((7,)), make.normal((5,))], [make.normal((7,)), make.normal((5,))]
    grads[0][3] = np.nan
    assert ops.sgd_step(params, grads, None, step=1, lr=0.1) is True
    assert np.flatnonzero(np.isnan(params[0])).tolist() == [3]
    assert np.isfinite(params[1]).all()


def test_skip_nonfinite_judges_the_unscaled_gradient():
    params, grads = [np.zeros(3, np.float32)], [np.full(3, 3e38, np.float32)]
    how = {"step": 1, "lr": 1e-30, "skip_nonfinite": True}
    assert ops.sgd_step(params, grads, None, grad_scale=1e10, **how) is True
    np.testing.assert_allclose(params[0], -3e-2, rtol=1e-6)
    # Unscaling comes first, and makes an infinity of this one.
    assert ops.sgd_step(params, grads, None, grad_scale=1e-10, **how) is False
    np.testing.assert_allclose(params[0], -3e-2, rtol=1e-6)


@pytest.mark.parametrize("dtype", ref.DTYPES[2:], ids=str)
def test_low_precision_copies_are_rounded_to_nearest_even(rng, dtype):
    """Every kind of float32 bit pattern, against the cast of NumPy or ml_dtypes."""
    patterns = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    ties = np.arange(2**16, dtype=np.uint32) << 16 | 0x8000
    half = np.arange(2**15, dtype=np.uint32)
    half = (half << 13) + (112 << 23) | 0x1000  # halfway between the normal numbers of float16
    bits = np.concatenate([patterns, ties, half, half - 1, half + 1])
    values = bits.view(np.float32)
    params = [values[np.isfinite(values)]]
    copies = [np.empty(params[0].shape, dtype)]
    before = params[0].copy()
    zeros = [np.zeros_like(params[0])]
    assert ops.sgd_step(params, zeros, None, step=1, lr=0.0, low_precision_copies=copies)
    np.testing.assert_array_equal(params[0], before)
    with np.errstate(over="ignore"):
        expected = before.astype(dtype)
    np.testing.assert_array_equal(copies[0].view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
@pytest.mark.parametrize("low", ref.DTYPES[2:], ids=str)
def test_low_precision_copies_follow_the_parameters(make, kind, low):
    run = Run(make, kind, np.float32, ref.OPTIMIZERS[kind].options[-1], ((7,), (0,), (3, 5)))
    copies = [np.zeros(p.shape, low) for p in run.params]
    for number in (1, 2):
        grads = run.gradients()
        how = {"step": number, "low_precision_copies": copies}
        ref.call_step(ops, kind, run.params, grads, run.states, **run.how, **how)
        for copy, p in zip(copies, run.params, strict=True):
            np.testing.assert_array_equal(copy, p.astype(low))


@pytest.mark.parametrize("convention", ref.CONVENTIONS)
@pytest.mark.parametrize("option", ["max_norm", "max_norm_each"])
def test_a_norm_within_the_limit_changes_nothing(make, option, convention):
    grads = [make.normal((7,)), make.normal((3, 3))]
    params = [np.zeros_like(g) for g in grads]
    how = {"step": 1, "lr": 1.0, "convention": convention}
    ops.sgd_step(params, grads, None, **how, **{option: 100.0})
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p, -g)


@pytest.mark.parametrize(("kind", "convention"), ref.PAIRS)
def test_gradients_of_zero_have_no_direction(kind, convention):
    """Neither clipping by a norm of zero nor an adaptive rate may make a NaN of it."""
    params, grads = [np.ones(5, np.float32)], [np.zeros(5, np.float32)]
    options = ref.own_cases(kind, convention)[-1] | {"max_norm": 1.0}
    states = ref.initial_states(kind, params, options)
    states = {name: as_dtype(arrays, np.float32) for name, arrays in states.items()}
    how = {"step": 1, "lr": 0.1, "convention": convention}
    ref.call_step(ops, kind, params, grads, states, **how, **options)
    np.testing.assert_array_equal(params[0], np.ones(5))


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_global_norm(make, threads, dtype):
    arrays = [make.normal(s, dtype) for s in ((0,), (1,), (3, 5, 7), (), (300_001,))]
    norm = ops.global_norm(arrays)
    assert type(norm) is float
    assert norm == pytest.approx(ref.global_norm(arrays), rel=1e-13)
    assert ops.global_norm([arrays[0]]) == 0.0
    big = [np.full(4, 1e30, np.float32)]
    assert ops.global_norm(big) == pytest.approx(2e30)


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
def test_a_step_by_name_is_the_same_step(make, kind):
    """`ops.optimizer_step`, which an optimizer without a function of its own goes through."""

    class OnlyByName:
        optimizer_step = staticmethod(ops.optimizer_step)

    results = []
    for functions in (ops, OnlyByName):
        rng = np.random.default_rng(5)
        params, grads = ([rng.standard_normal((3, 7)).astype(np.float32)] for _ in range(2))
        names = ref.OPTIMIZERS[kind].state_names(ref.OPTIMIZERS[kind].options[-1])
        states = {name: [np.ones((3, 7), np.float32)] for name in names}
        how = {**ref.OPTIMIZERS[kind].options[-1], "lr": 0.1, "step": 2, "weight_decay": 0.1}
        assert ref.call_step(functions, kind, params, grads, states, **how)
        results.append([*params, *(array for name in names for array in states[name])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_amsgrad_keeps_a_nan():
    """The maximum of a NaN and a number is NaN, whichever side it is on, as in PyTorch."""
    params, grads, exp_avgs, exp_avg_sqs, maxima = ([np.ones(3)] for _ in range(5))
    maxima[0][0] = exp_avg_sqs[0][1] = np.nan
    ops.adam_step(
        *(params, grads, exp_avgs, exp_avg_sqs),
        **{"step": 2, "lr": 0.1, "amsgrad": True, "max_exp_avg_sqs": maxima},
    )
    np.testing.assert_array_equal(np.isnan(maxima[0]), [True, True, False])
    np.testing.assert_array_equal(np.isnan(params[0]), [True, True, False])
