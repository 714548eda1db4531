"""The optimizers' CUDA kernels against the CPU's: the same bits, in every order of threads."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from optimizer_calls import CallError, Lists
from optimizer_cases import assert_same, compare_steps, new_grads, numpy_lists
from simulator import SCHEDULES

from fusednn import _core, ops
from optimizer_formulas import step_number
from reference import OPTIMIZERS, case_id, optimizer_cases

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def test_every_optimizer_is_tested():
    assert list(OPTIMIZERS) == _core.optimizer_names()


@pytest.mark.parametrize(("kind", "convention", "options"), list(optimizer_cases()), ids=case_id)
def test_values(gpu, kind, convention, options):
    # A sum of squares may differ in its last bit, and the factor with it.
    rtol = 1e-5 if {"max_norm", "max_norm_each"} & options.keys() else 0.0
    theirs = numpy_lists(kind, options)
    ours = Lists.on(gpu, theirs)
    compare_steps(theirs, ours, convention, rtol=rtol, lr=0.1, **options)


#: Storage types of params, grads, states, average, copies.
STORAGE = [
    {"params": np.float64, "grads": np.float64, "states": np.float64, "ema": np.float64},
    {"params": np.float32, "grads": BFLOAT16, "low_precision_copies": BFLOAT16, "ema": BFLOAT16},
    {"params": np.float32, "grads": np.float16, "low_precision_copies": np.float16},
    {"params": BFLOAT16, "grads": BFLOAT16, "states": BFLOAT16, "ema": np.float16},
    {"params": np.float16, "grads": np.float32, "ema": np.float32},
    {"params": np.float16, "grads": np.float16, "states": np.float16, "ema": np.float32},
    {"params": BFLOAT16, "grads": np.float32, "states": np.uint8},
    {"params": np.float32, "grads": np.float16, "states": np.uint8, "ema": BFLOAT16},
]


def fullest_options(kind: str, in_codes: bool) -> dict[str, Any]:
    """An option set that needs all states, or all of those that may be codes."""
    own = {"sgd": {"momentum": 0.9}, "rmsprop": {"momentum": 0.9}}.get(kind, {})
    if not in_codes:
        own = own | {"rmsprop": {"centered": True}, "adam": {"amsgrad": True}}.get(kind, {})
    return own | {"ema_momentum": 0.9, "weight_decay": 0.01, "grad_scale": 8.0}


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize(
    "dtypes", STORAGE, ids=lambda d: "-".join(np.dtype(t).name for t in d.values())
)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_storage_types(gpu, kind, dtypes, offset):
    options = fullest_options(kind, dtypes.get("states") == np.uint8)
    sizes = (1030, 0, 1, 255, 4097, 2, 256)
    seeds = [None, 5] if dtypes["params"] == BFLOAT16 else [None]
    for seed in seeds:
        theirs = numpy_lists(kind, options, sizes, dtypes)
        ours = Lists.on(gpu, theirs, offset)
        more = {} if seed is None else {"stochastic_rounding_seed": seed}
        compare_steps(theirs, ours, steps=2, lr=0.05, **options, **more)


@pytest.mark.parametrize("multiprocessors", [1, 7])
def test_schedules(gpu, multiprocessors):
    """With codes, random rounding, per-tensor steps and norms: everything that threads wait for."""
    options = {
        "lr": 0.05,
        "ema_momentum": 0.9,
        "stochastic_rounding_seed": 3,
        "skip_nonfinite": True,
    }
    sizes = (20000, 0, 300, 5, 4096, 17000)
    dtypes = {"params": BFLOAT16, "grads": BFLOAT16, "states": np.uint8, "ema": BFLOAT16}
    steps = [3, 1, 1, 7, 2, 2]
    theirs = numpy_lists("adam", options, sizes, dtypes)
    start = Lists(
        "adam", {name: [a.copy() for a in list_] for name, list_ in theirs.arrays.items()}
    )
    theirs.step(steps, **options)
    clipped = []
    for schedule in SCHEDULES:
        gpu.set(multiprocessors=multiprocessors)
        gpu.schedule(*schedule)
        ours = Lists.on(gpu, start)
        ours.step(steps, **options)
        assert_same(ours.values(), theirs.values())
        ours = Lists.on(gpu, start)
        ours.step(steps, max_norm=2.0, **options)
        clipped.append(ours.values())
    for values in clipped[1:]:
        assert_same(values, clipped[0])


def test_different_steps(gpu):
    """Nothing but its step makes a tensor's coefficients its own, and the table follows."""
    gpu.set(multiprocessors=1)  # so that a block has several tensors
    theirs = numpy_lists("adam", {})
    ours = Lists.on(gpu, theirs)
    for steps in ([9, 1, 1, 2, 40, 3], [10, 2, 2, 3, 41, 4], [10, 2, 2, 3, 1, 1]):
        for lists in (theirs, ours):
            lists.step(steps, lr=0.1)
        assert_same(ours.values(), theirs.values())


@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}], ids=["", "max_norm"])
def test_gradients_that_are_new_arrays(gpu, options):
    """The table on the device follows; where one is refused the step has those of before."""
    theirs = numpy_lists("adam", {})
    ours = Lists.on(gpu, theirs)
    rtol = 1e-5 if options else 0.0
    old = []  # alive, so that no address comes again
    for t in (1, 2, 3):
        grads = new_grads(theirs, t)
        old.append(ours.arrays["grads"])
        ours.replace_grads([gpu.array(g) for g in grads])
        for spoilt in old[-1]:
            spoilt.set(np.full(spoilt.shape, np.nan, spoilt.dtype))
        theirs.set_grads(grads)
        for lists in (theirs, ours):
            lists.step(t, lr=0.1, **options)
        assert_same(ours.values(), theirs.values(), rtol)
    wrong = [*ours.arrays["grads"][:-1], gpu.array(np.ones(96, np.float32))]
    with pytest.raises(CallError, match=r"grads\[5\]"):
        ours.replace_grads(wrong)
    for lists in (theirs, ours):
        lists.step(4, lr=0.1, **options)
    assert_same(ours.values(), theirs.values(), rtol)
    # A list on another device's memory, which the kernels cannot read.
    with pytest.raises(CallError, match="grads"):
        ours.replace_grads(theirs.arrays["grads"])


def test_extreme_values(gpu):
    """Infinities, NaNs, denormals and the largest numbers, in elements and blocks of codes."""
    special = np.array(
        [np.inf, -np.inf, np.nan, 1e-42, -1e-40, 3.4e38, -3.4e38, 0.0, -0.0], np.float32
    )
    for dtypes in ({}, {"states": np.uint8}, {"grads": BFLOAT16, "params": BFLOAT16}):
        theirs = numpy_lists("adam", {}, (1300, 300, 256), dtypes)
        for grad in theirs.arrays["grads"][:2]:
            grad[5 : 5 + special.size] = special.astype(grad.dtype)
        ours = Lists.on(gpu, theirs)
        for t in (1, 2):
            for lists in (theirs, ours):
                lists.step(t, lr=0.1)
            for name, arrays in ours.values().items():
                for pair in zip(arrays, theirs.values()[name], strict=True):
                    wide = (np.asarray(a, np.float64) for a in pair)
                    np.testing.assert_array_equal(*wide, err_msg=name)


# ---- Norms ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BFLOAT16], ids=str)
def test_global_norm(gpu, dtype):
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=n).astype(dtype) for n in (40000, 0, 1, 16385, 777)]
    expected = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
    results = set()
    for multiprocessors, offset, schedule in zip(
        (1, 2, 40, 3, 1, 9, 5, 4, 2), (0, 1, 0, 3, 0, 0, 1, 2, 0), SCHEDULES, strict=True
    ):
        gpu.set(multiprocessors=multiprocessors)
        gpu.schedule(*schedule)
        on_device = [gpu.array(a, offset=offset * a.dtype.itemsize) for a in arrays]
        results.add(ops.global_norm(on_device))
    assert len(results) == 1
    np.testing.assert_allclose(results.pop(), expected, 1e-13)


def test_global_norm_of_extremes(gpu):
    def norm(*values: np.ndarray) -> float:
        return ops.global_norm([gpu.array(v) for v in values])

    assert norm(np.zeros(5, np.float32)) == 0.0
    np.testing.assert_allclose(norm(np.full(4, 3e38, np.float32)), 6e38, 1e-7)
    assert np.isnan(norm(np.array([1, np.nan], np.float32)))
    assert np.isinf(norm(np.array([1, np.inf]), np.ones(3, np.float32)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("where", [(0, 3), (2, 16999)])
def test_skip_nonfinite(gpu, dtype, bad, where):
    dtypes = dict.fromkeys(("params", "grads", "states"), dtype)
    theirs = numpy_lists("adam", {}, (300, 0, 17000), dtypes)
    ours = Lists.on(gpu, theirs)
    before = ours.values()
    grads = new_grads(theirs, 1)
    spoilt = [g.copy() for g in grads]
    spoilt[where[0]][where[1]] = bad
    stepped, step = gpu.array(np.array([7], np.int32)), gpu.array(np.array([4.0], np.float32))
    how: dict[str, Any] = {
        "lr": 0.1,
        "skip_nonfinite": True,
        "scalars": {"stepped": stepped, "step": step},
    }
    ours.set_grads(spoilt)
    assert ours.step(1, **how) == -1
    assert_same(ours.values(), before)
    assert (stepped.get()[0], step.get()[0]) == (0, 4.0)
    ours.set_grads(grads)
    ours.step(1, **how)
    assert (stepped.get()[0], step.get()[0]) == (1, 5.0)
    theirs.set_grads(grads)
    theirs.step(5, lr=0.1)
    assert_same(ours.values(), theirs.values())


def test_finite_squares_that_overflow_are_no_reason_to_skip(gpu):
    dtypes = dict.fromkeys(("params", "grads", "states"), np.float64)
    ours = Lists.on(gpu, numpy_lists("sgd", {}, (9,), dtypes))
    ours.set_grads([np.full(9, 1e200)])
    before = ours.values()["params"][0]
    ours.step(1, lr=1.0, skip_nonfinite=True)
    np.testing.assert_array_equal(ours.values()["params"][0], before - 1e200)


def test_each_gradient_clipped_to_its_own_norm(gpu):
    """The factor is exact where norms are powers of two, and then every bit is the CPU's."""
    theirs = numpy_lists("sgd", {}, (64, 16, 256))
    grads = [np.full(n, 2.0, np.float32) for n in (64, 16, 256)]  # norms 16, 8, 32
    ours = Lists.on(gpu, theirs)
    for lists in (theirs, ours):
        lists.set_grads(grads)
        lists.step(1, "keras", lr=0.1, max_norm_each=4.0)
    assert_same(ours.values(), theirs.values())


# ---- The device's own numbers ----


@pytest.mark.parametrize("convention", ["torch", "onnx"])
@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_device_scalars(gpu, kind, convention):
    theirs = numpy_lists(kind, {}, (300, 9000))
    ours = Lists.on(gpu, theirs)
    lr, grad_scale = np.float32(0.3), np.float32(3.7)
    scalars = {
        "lr": gpu.array([lr]),
        "grad_scale": gpu.array([grad_scale]),
        "step": gpu.array(np.zeros(1, np.float32)),
        "found_inf": gpu.array(np.zeros(1, np.float32)),
        "stepped": gpu.array(np.array([7], np.int32)),
    }
    for t in range(1, 4):
        grads = new_grads(theirs, t)
        for lists in (theirs, ours):
            lists.set_grads(grads)
        theirs.step(
            step_number(convention, t), convention, lr=lr, grad_scale=grad_scale, weight_decay=0.01
        )
        # The host's numbers are not looked at.
        ours.step(1, convention, lr=99.0, grad_scale=99.0, weight_decay=0.01, scalars=scalars)
        assert_same(ours.values(), theirs.values())
        assert (scalars["step"].get()[0], scalars["stepped"].get()[0]) == (t, 1)
    before = ours.values()
    scalars["found_inf"].set(np.ones(1, np.float32))
    ours.step(1, convention, lr=99.0, grad_scale=99.0, max_norm=1.0, scalars=scalars)
    assert_same(ours.values(), before)
    assert (scalars["step"].get()[0], scalars["stepped"].get()[0]) == (3, 0)


def test_device_grad_scale_in_norms(gpu):
    theirs = numpy_lists("sgd", {}, (300, 9000))
    ours = Lists.on(gpu, theirs)
    scale = np.float32(64.0)
    theirs.step(1, lr=0.1, grad_scale=scale, max_norm=1.0)
    ours.step(1, lr=0.1, max_norm=1.0, scalars={"grad_scale": gpu.array([scale])})
    assert_same(ours.values(), theirs.values(), 1e-6)
