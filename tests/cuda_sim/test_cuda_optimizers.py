"""The optimizers' CUDA kernels against the CPU's: the same bits, in every order of threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from optimizer_calls import PER_THREAD_STREAM, CallError, Lists, on_stream, quantized_zeros
from simulator import SCHEDULES, Simulator, library

from fusednn import _core, ops
from optimizer_formulas import step_number
from reference import OPTIMIZERS, case_id, initial_states, optimizer_cases

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SIZES = (300, 0, 1, 7, 1030, 97)
FNN_ERROR_MEMORY, FNN_ERROR_DEVICE = 4, 6


@pytest.fixture(scope="module")
def cuda_library() -> Simulator:
    path = library("fusednn_cuda_sim")
    os.environ["FUSEDNN_CUDA_LIBRARY"] = str(path)
    return Simulator(path)


@pytest.fixture
def cuda(cuda_library: Simulator) -> Iterator[Simulator]:
    cuda_library.reset()
    yield cuda_library
    cuda_library.reset()
    races = cuda_library.races()
    assert not races, races


def assert_same(ours: dict[str, list], theirs: dict[str, list], rtol: float = 0.0) -> None:
    """Every array of the two has the same bits, or is near by where `rtol` is given."""
    assert ours.keys() == theirs.keys()
    for name, arrays in ours.items():
        for i, (a, b) in enumerate(zip(arrays, theirs[name], strict=True)):
            if rtol:
                wide = np.asarray(a, np.float64), np.asarray(b, np.float64)
                np.testing.assert_allclose(*wide, rtol, 1e-30, err_msg=f"{name}[{i}]")
            else:
                np.testing.assert_array_equal(
                    a.view(np.uint8) if a.ndim else a, b.view(np.uint8), err_msg=f"{name}[{i}]"
                )


def numpy_lists(
    kind: str,
    options: dict[str, Any],
    sizes: tuple[int, ...] = SIZES,
    dtypes: dict[str, Any] | None = None,
    seed: int = 1,
) -> Lists:
    """Random parameters and gradients with fresh states, by default float32.

    `dtypes` gives others by list: "params", "grads", "states" (uint8: codes), "ema",
    "low_precision_copies" (none unless given).
    """
    dtypes = dtypes or {}
    rng = np.random.default_rng(seed)
    params = [rng.normal(size=n) for n in sizes]
    arrays = {
        "params": [p.astype(dtypes.get("params", np.float32)) for p in params],
        "grads": [rng.normal(size=n).astype(dtypes.get("grads", np.float32)) for n in sizes],
    }
    for name, states in initial_states(kind, params, options).items():
        dtype = np.dtype(dtypes.get("ema" if name == "ema" else "states", np.float32))
        if dtype == np.uint8:
            pairs = [quantized_zeros(p.shape) for p in params]
            arrays[name], arrays[f"{name}.scales"] = (list(a) for a in zip(*pairs, strict=True))
        else:
            arrays[name] = [s.astype(dtype) for s in states]
    if "low_precision_copies" in dtypes:
        dtype = dtypes["low_precision_copies"]
        arrays["low_precision_copies"] = [np.full(n, np.nan, dtype) for n in sizes]
    return Lists(kind, arrays)


def new_grads(lists: Lists, t: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + t)
    return [rng.normal(size=g.shape).astype(g.dtype) for g in lists.arrays["grads"]]


def compare_steps(
    cpu: Lists,
    gpu: Lists,
    convention: str = "torch",
    steps: int = 3,
    rtol: float = 0.0,
    **options: Any,
) -> None:
    for t in range(1, steps + 1):
        grads = new_grads(cpu, t)
        for lists in (cpu, gpu):
            lists.set_grads(grads)
            lists.step(step_number(convention, t), convention, **options)
        assert_same(gpu.values(), cpu.values(), rtol)


@pytest.mark.parametrize(("kind", "convention", "options"), list(optimizer_cases()), ids=case_id)
def test_values(cuda, kind, convention, options):
    # A sum of squares may differ in its last bit, and the factor with it.
    rtol = 1e-5 if {"max_norm", "max_norm_each"} & options.keys() else 0.0
    cpu = numpy_lists(kind, options)
    gpu = Lists.on(cuda, cpu)
    compare_steps(cpu, gpu, convention, rtol=rtol, lr=0.1, **options)


#: Storage types of params, grads, states, average, copies.
STORAGE = [
    {"params": np.float64, "grads": np.float64, "states": np.float64, "ema": np.float64},
    {"params": np.float32, "grads": BFLOAT16, "low_precision_copies": BFLOAT16, "ema": BFLOAT16},
    {"params": np.float32, "grads": np.float16, "low_precision_copies": np.float16},
    {"params": BFLOAT16, "grads": BFLOAT16, "states": BFLOAT16, "ema": np.float16},
    {"params": np.float16, "grads": np.float32, "ema": np.float32},
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
def test_storage_types(cuda, kind, dtypes, offset):
    options = fullest_options(kind, dtypes.get("states") == np.uint8)
    sizes = (1030, 0, 1, 255, 4097, 2, 256)
    seeds = [None, 5] if dtypes["params"] == BFLOAT16 else [None]
    for seed in seeds:
        cpu = numpy_lists(kind, options, sizes, dtypes)
        gpu = Lists.on(cuda, cpu, offset)
        more = {} if seed is None else {"stochastic_rounding_seed": seed}
        compare_steps(cpu, gpu, steps=2, lr=0.05, **options, **more)


@pytest.mark.parametrize("multiprocessors", [1, 7])
def test_schedules(cuda, multiprocessors):
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
    cpu = numpy_lists("adam", options, sizes, dtypes)
    start = Lists("adam", {name: [a.copy() for a in list_] for name, list_ in cpu.arrays.items()})
    cpu.step(steps, **options)
    clipped = []
    for schedule in SCHEDULES:
        cuda.set(multiprocessors=multiprocessors)
        cuda.schedule(*schedule)
        gpu = Lists.on(cuda, start)
        gpu.step(steps, **options)
        assert_same(gpu.values(), cpu.values())
        gpu = Lists.on(cuda, start)
        gpu.step(steps, max_norm=2.0, **options)
        clipped.append(gpu.values())
    for values in clipped[1:]:
        assert_same(values, clipped[0])


def test_different_steps(cuda):
    """Nothing but its step makes a tensor's coefficients its own, and the table follows."""
    cuda.set(multiprocessors=1)  # so that a block has several tensors
    cpu = numpy_lists("adam", {})
    gpu = Lists.on(cuda, cpu)
    for steps in ([9, 1, 1, 2, 40, 3], [10, 2, 2, 3, 41, 4], [10, 2, 2, 3, 1, 1]):
        for lists in (cpu, gpu):
            lists.step(steps, lr=0.1)
        assert_same(gpu.values(), cpu.values())


def test_extreme_values(cuda):
    """Infinities, NaNs, denormals and the largest numbers, in elements and blocks of codes."""
    special = np.array(
        [np.inf, -np.inf, np.nan, 1e-42, -1e-40, 3.4e38, -3.4e38, 0.0, -0.0], np.float32
    )
    for dtypes in ({}, {"states": np.uint8}, {"grads": BFLOAT16, "params": BFLOAT16}):
        cpu = numpy_lists("adam", {}, (1300, 300, 256), dtypes)
        for grad in cpu.arrays["grads"][:2]:
            grad[5 : 5 + special.size] = special.astype(grad.dtype)
        gpu = Lists.on(cuda, cpu)
        for t in (1, 2):
            for lists in (cpu, gpu):
                lists.step(t, lr=0.1)
            for name, arrays in gpu.values().items():
                for ours, theirs in zip(arrays, cpu.values()[name], strict=True):
                    wide = (np.asarray(a, np.float64) for a in (ours, theirs))
                    np.testing.assert_array_equal(*wide, err_msg=name)


# ---- Norms ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BFLOAT16], ids=str)
def test_global_norm(cuda, dtype):
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=n).astype(dtype) for n in (40000, 0, 1, 16385, 777)]
    expected = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
    results = set()
    for multiprocessors, offset, schedule in zip(
        (1, 2, 40, 3, 1, 9, 5, 4, 2), (0, 1, 0, 3, 0, 0, 1, 2, 0), SCHEDULES, strict=True
    ):
        cuda.set(multiprocessors=multiprocessors)
        cuda.schedule(*schedule)
        on_device = [cuda.array(a, offset=offset * a.dtype.itemsize) for a in arrays]
        results.add(ops.global_norm(on_device))
    assert len(results) == 1
    np.testing.assert_allclose(results.pop(), expected, 1e-13)


def test_global_norm_of_extremes(cuda):
    def norm(*values: np.ndarray) -> float:
        return ops.global_norm([cuda.array(v) for v in values])

    assert norm(np.zeros(5, np.float32)) == 0.0
    np.testing.assert_allclose(norm(np.full(4, 3e38, np.float32)), 6e38, 1e-7)
    assert np.isnan(norm(np.array([1, np.nan], np.float32)))
    assert np.isinf(norm(np.array([1, np.inf]), np.ones(3, np.float32)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("where", [(0, 3), (2, 16999)])
def test_skip_nonfinite(cuda, dtype, bad, where):
    dtypes = dict.fromkeys(("params", "grads", "states"), dtype)
    cpu = numpy_lists("adam", {}, (300, 0, 17000), dtypes)
    gpu = Lists.on(cuda, cpu)
    before = gpu.values()
    grads = new_grads(cpu, 1)
    spoilt = [g.copy() for g in grads]
    spoilt[where[0]][where[1]] = bad
    stepped, step = cuda.array(np.array([7], np.int32)), cuda.array(np.array([4.0], np.float32))
    how: dict[str, Any] = {
        "lr": 0.1,
        "skip_nonfinite": True,
        "scalars": {"stepped": stepped, "step": step},
    }
    gpu.set_grads(spoilt)
    assert gpu.step(1, **how) == -1
    assert_same(gpu.values(), before)
    assert (stepped.get()[0], step.get()[0]) == (0, 4.0)
    gpu.set_grads(grads)
    gpu.step(1, **how)
    assert (stepped.get()[0], step.get()[0]) == (1, 5.0)
    cpu.set_grads(grads)
    cpu.step(5, lr=0.1)
    assert_same(gpu.values(), cpu.values())


def test_finite_squares_that_overflow_are_no_reason_to_skip(cuda):
    dtypes = dict.fromkeys(("params", "grads", "states"), np.float64)
    gpu = Lists.on(cuda, numpy_lists("sgd", {}, (9,), dtypes))
    gpu.set_grads([np.full(9, 1e200)])
    before = gpu.values()["params"][0]
    gpu.step(1, lr=1.0, skip_nonfinite=True)
    np.testing.assert_array_equal(gpu.values()["params"][0], before - 1e200)


def test_each_gradient_clipped_to_its_own_norm(cuda):
    """The factor is exact where norms are powers of two, and then every bit is the CPU's."""
    cpu = numpy_lists("sgd", {}, (64, 16, 256))
    grads = [np.full(n, 2.0, np.float32) for n in (64, 16, 256)]  # norms 16, 8, 32
    gpu = Lists.on(cuda, cpu)
    for lists in (cpu, gpu):
        lists.set_grads(grads)
        lists.step(1, "keras", lr=0.1, max_norm_each=4.0)
    assert_same(gpu.values(), cpu.values())


# ---- The device's own numbers ----


@pytest.mark.parametrize("convention", ["torch", "onnx"])
@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_device_scalars(cuda, kind, convention):
    cpu = numpy_lists(kind, {}, (300, 9000))
    gpu = Lists.on(cuda, cpu)
    lr, grad_scale = np.float32(0.3), np.float32(3.7)
    scalars = {
        "lr": cuda.array([lr]),
        "grad_scale": cuda.array([grad_scale]),
        "step": cuda.array(np.zeros(1, np.float32)),
        "found_inf": cuda.array(np.zeros(1, np.float32)),
        "stepped": cuda.array(np.array([7], np.int32)),
    }
    for t in range(1, 4):
        grads = new_grads(cpu, t)
        for lists in (cpu, gpu):
            lists.set_grads(grads)
        cpu.step(
            step_number(convention, t), convention, lr=lr, grad_scale=grad_scale, weight_decay=0.01
        )
        # The host's numbers are not looked at.
        gpu.step(1, convention, lr=99.0, grad_scale=99.0, weight_decay=0.01, scalars=scalars)
        assert_same(gpu.values(), cpu.values())
        assert (scalars["step"].get()[0], scalars["stepped"].get()[0]) == (t, 1)
    before = gpu.values()
    scalars["found_inf"].set(np.ones(1, np.float32))
    gpu.step(1, convention, lr=99.0, grad_scale=99.0, max_norm=1.0, scalars=scalars)
    assert_same(gpu.values(), before)
    assert (scalars["step"].get()[0], scalars["stepped"].get()[0]) == (3, 0)


def test_device_grad_scale_in_norms(cuda):
    cpu = numpy_lists("sgd", {}, (300, 9000))
    gpu = Lists.on(cuda, cpu)
    scale = np.float32(64.0)
    cpu.step(1, lr=0.1, grad_scale=scale, max_norm=1.0)
    gpu.step(1, lr=0.1, max_norm=1.0, scalars={"grad_scale": cuda.array([scale])})
    assert_same(gpu.values(), cpu.values(), 1e-6)


# ---- What stays on the device ----


def test_one_launch_and_nothing_else(cuda):
    """From the second step on: no upload, no allocation, no wait; also where the steps differ."""
    gpu = Lists.on(cuda, numpy_lists("adam", {}))
    gpu.step([1, 2, 3, 4, 5, 6], lr=0.1)
    before = cuda.counts
    gpu.step([2, 3, 4, 5, 6, 7], lr=0.2)
    after = cuda.counts
    assert after.launches - before.launches == 1
    gpu.step([3, 4, 5, 6, 7, 8], lr=0.2, max_norm=1.0)
    last = cuda.counts
    assert last.launches - after.launches == 2
    for name in ("allocations", "synchronisations", "copies"):
        assert getattr(last, name) == getattr(before, name), name


def test_long_lists(cuda):
    """More tensors than one packet of a table holds."""
    sizes = tuple(i % 5 for i in range(400))
    cpu = numpy_lists("rmsprop", {}, sizes)
    gpu = Lists.on(cuda, cpu)
    compare_steps(cpu, gpu, steps=2, lr=0.1)


def test_a_new_list_takes_the_memory_of_one_that_is_gone(cuda):
    Lists.on(cuda, numpy_lists("adam", {})).step(1, lr=0.1)
    gpu = Lists.on(cuda, numpy_lists("adam", {}))
    before = cuda.counts.allocations
    gpu.step(1, lr=0.1)
    assert cuda.counts.allocations == before


def test_memory_is_not_lent_to_another_stream(cuda):
    Lists.on(cuda, numpy_lists("adam", {})).step(1, lr=0.1)
    gpu = Lists.on(cuda, numpy_lists("adam", {}))
    before = cuda.counts.allocations
    with on_stream(PER_THREAD_STREAM):
        gpu.step(1, lr=0.1)
    assert cuda.counts.allocations == before + 1


def test_states_that_a_step_does_not_need_stay(cuda):
    options = {"momentum": 0.9}
    cpu = numpy_lists("sgd", options)
    gpu = Lists.on(cuda, cpu)
    for t, more in enumerate(({}, options, {}, options), 1):
        for lists in (cpu, gpu):
            lists.step(t, lr=0.1, **more)
        assert_same(gpu.values(), cpu.values())


def test_capture_needs_memory_of_a_step_before(cuda):
    sizes = (1,) * 1500  # more than any test before: no memory of this size is kept
    gpu = Lists.on(cuda, numpy_lists("sgd", {}, sizes))
    with cuda.capture(), pytest.raises(CallError, match="captur") as raised:
        gpu.step(1, lr=0.1)
    assert raised.value.status == FNN_ERROR_DEVICE


def test_a_graph_keeps_the_memory_of_its_list(cuda):
    """It is replayed when the list is long gone: nobody else may have its memory."""
    sizes = (1,) * 3000  # as above
    gpu = Lists.on(cuda, numpy_lists("sgd", {}, sizes))
    gpu.step(1, lr=0.1)
    with cuda.capture():
        gpu.step(2, lr=0.1)
    del gpu
    before = cuda.counts.allocations
    Lists.on(cuda, numpy_lists("sgd", {}, sizes)).step(1, lr=0.1)
    assert cuda.counts.allocations == before + 2 * len(sizes) + 1


def test_replayed_steps(cuda):
    """A captured step goes on with the device's own step and rate, whatever its list did since."""
    options = {"max_norm_each": 64.0, "skip_nonfinite": True, "stochastic_rounding_seed": 3}
    dtypes = {"params": BFLOAT16, "states": np.uint8}
    cpu = numpy_lists("adam", {}, (300, 4100, 7), dtypes)
    gpu = Lists.on(cuda, cpu)
    scalars = {
        "lr": cuda.array(np.zeros(1, np.float32)),
        "step": cuda.array(np.zeros(1, np.float32)),
        "stepped": cuda.array(np.zeros(1, np.int32)),
    }

    def both(t: int, gpu_step: Callable[[], object]) -> None:
        lr = np.float32(0.1 / t)
        scalars["lr"].set(np.array([lr]))
        for lists in (cpu, gpu):
            lists.set_grads(new_grads(cpu, t))
        cpu.step(t, lr=lr, **options)
        gpu_step()
        assert_same(gpu.values(), cpu.values())
        assert (scalars["step"].get()[0], scalars["stepped"].get()[0]) == (t, 1)

    both(1, lambda: gpu.step(1, lr=99.0, scalars=scalars, **options))
    with cuda.capture():
        gpu.step(1, lr=99.0, scalars=scalars, **options)
    both(2, cuda.replay)
    both(3, cuda.replay)
    # Other steps, hence another table, of no consequence to the graph.
    both(4, lambda: gpu.step([1, 2, 3], lr=99.0, scalars=scalars, **options))
    both(5, cuda.replay)


def test_work_that_starts_late(cuda):
    """Nothing that the host gives up at a call's end is read by the device later."""
    cpu = numpy_lists("rmsprop", {"momentum": 0.9}, (300, 4100, 7))
    gpu = Lists.on(cuda, cpu)
    cuda.set(deferred=1)
    compare_steps(cpu, gpu, lr=0.1, momentum=0.9, skip_nonfinite=True)
    arrays = gpu.arrays["params"]
    np.testing.assert_allclose(
        ops.global_norm(arrays), ops.global_norm(cpu.arrays["params"]), 1e-13
    )
    Lists.on(cuda, cpu).step(4, lr=0.1)  # gone before it began
    assert_same(gpu.values(), cpu.values())


def test_failures_change_nothing(cuda):
    cpu = numpy_lists("adam", {})
    gpu = Lists.on(cuda, cpu)
    before = gpu.values()
    for nth in (1, 2, 3):  # one of the uploads, or the update
        cuda.set(fail_launch=nth)
        with pytest.raises(CallError) as raised:
            gpu.step(1, lr=0.1)
        assert raised.value.status == FNN_ERROR_DEVICE
        assert_same(gpu.values(), before)
    compare_steps(cpu, gpu, lr=0.1)
    large = Lists.on(cuda, numpy_lists("adam", {}, (1,) * 5000))  # as in test_capture
    before = large.values()
    cuda.set(fail_allocation=1)
    with pytest.raises(CallError) as raised:
        large.step(1, lr=0.1)
    assert raised.value.status == FNN_ERROR_MEMORY
    assert_same(large.values(), before)


def test_every_optimizer_is_tested():
    assert list(OPTIMIZERS) == _core.optimizer_names()
