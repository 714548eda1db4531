"""BatchNorm's CUDA kernels: near the float64 reference, element by element the bits of the CPU.

The same bits on every device, in every order of threads and at every place in memory.
"""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np
import pytest
from batch_norm_on_device import DEVICES, TWO_PASSES, Limits, OnDevice, ResidentProblem, Schedule
from batch_norm_on_device import limits as device_of
from simulator import Simulator, library

import reference as ref
from batch_norm_problem import LAYOUTS, Problem
from fusednn import ops

#: (outer, channels, inner): nothing, one element, one per channel, 7 x 7 images and odd channels,
#: one channel, more channels than blocks, runs and rows over several leaves.
SHAPES = (
    *((0, 3, 7), (2, 0, 7), (1, 1, 1), (1, 5, 2), (3, 37, 1), (5, 7, 49), (2, 3, 64)),
    *((7, 1, 343), (3, 2, 2000), (2, 70, 8), (3, 2, 8193), (1, 1, 40_001)),
)


@pytest.fixture(scope="session")
def batch_norm_library() -> Simulator:
    return Simulator(library("fusednn_cuda_sim"))


@pytest.fixture
def simulator(batch_norm_library):
    batch_norm_library.reset()
    yield batch_norm_library
    batch_norm_library.reset()
    races = batch_norm_library.races()
    assert not races, races


@pytest.fixture(params=DEVICES.values(), ids=DEVICES.keys())
def device(request, simulator) -> OnDevice:
    return OnDevice(simulator, request.param)


def shape_id(shape):
    return "x".join(map(str, shape))


def each_problem(test):
    for name, values, name_of in (
        ("shape", SHAPES, shape_id),
        ("layout", ("NCHW", "NHWC"), str),
        ("dtype", ref.DTYPES, str),
    ):
        test = pytest.mark.parametrize(name, values, ids=name_of)(test)
    return test


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    bits = np.dtype(f"u{actual.itemsize}")
    np.testing.assert_array_equal(actual.view(bits), expected.view(bits))


def saved_of(p):
    """mean and inv_std that a forward pass on the CPU keeps."""
    return ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)[1:]


@each_problem
def test_forward(make, device, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.1)
    y, mean, inv_std = device.forward(p.x, p.gamma, p.beta, **p.how)
    p.assert_statistics(mean, inv_std)
    assert_same_bits(y, ops.batch_norm_apply(p.x, mean, inv_std, p.gamma, p.beta, **p.how))


@each_problem
def test_backward(make, device, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.1)
    mean, inv_std = saved_of(p)
    got = device.gradients(
        *("backward", p.x), x=p.x, grad=p.grad, gamma=p.gamma, beta=p.beta, mean=mean,
        inv_std=inv_std, **p.how,
    )  # fmt: skip
    expected = ref.batch_norm_backward(p.grad, p.x, p.gamma, p.beta, mean, inv_std, **p.how)
    p.assert_gradients(got, expected, p.gamma, inv_std, mean)


@each_problem
def test_backward_from_output(make, device, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.1)
    y, _, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)
    got = device.gradients(
        *("backward_from_output", y), y_in=y, grad=p.grad, gamma=p.gamma, beta=p.beta,
        inv_std=inv_std, **p.how,
    )  # fmt: skip
    # The values of the output's own rounding are what the reference sees.
    expected = ref.batch_norm_backward_from_output(p.grad, y, p.gamma, p.beta, inv_std, **p.how)
    own = ops.batch_norm_backward_from_output(p.grad, y, p.gamma, p.beta, inv_std, **p.how)
    p.assert_gradients(got, expected, p.gamma, inv_std, np.zeros_like(inv_std), ulps=64)
    for mine, theirs in zip(got, own, strict=True):
        assert mine.dtype == theirs.dtype


@each_problem
def test_element_wise_functions_give_the_bits_of_the_cpu(make, device, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.1)
    mean, inv_std = saved_of(p)
    own = ref.statistics_dtype(dtype)
    variance = make.uniform((shape[1],), own)
    affine = {"gamma": p.gamma, "beta": p.beta}

    (y,) = device.call(
        *("apply", p.x, p.axis, {"y": "full"}), x=p.x, mean=mean, inv_std=inv_std,
        negative_slope=p.slope, **affine,
    )  # fmt: skip
    assert_same_bits(y, ops.batch_norm_apply(p.x, mean, inv_std, p.gamma, p.beta, **p.how))

    population = {"running_mean": mean, "running_var": variance}
    (y,) = device.call(
        *("inference", p.x, p.axis, {"y": "full"}), x=p.x, negative_slope=p.slope, **population
    )
    assert_same_bits(y, ops.batch_norm_inference(p.x, None, None, mean, variance, **p.how))

    count = 2 * shape[0] * shape[2] + 1
    sums = {
        "sum_grad": make.normal((shape[1],), own),
        "sum_grad_xhat": make.normal((shape[1],), own),
    }
    (grad_x,) = device.call(
        *("backward_apply", p.x, p.axis, {"grad_x": "full"}), x=p.x, grad=p.grad, mean=mean,
        inv_std=inv_std, count=count, negative_slope=p.slope, **affine, **sums,
    )  # fmt: skip
    expected = ops.batch_norm_backward_apply(
        p.grad, p.x, p.gamma, p.beta, mean, inv_std, *sums.values(), count, **p.how
    )
    assert_same_bits(grad_x, expected)

    grad_x, *sums_of = device.gradients(
        *("inference_backward", p.x), x=p.x, grad=p.grad, **affine, **population, **p.how
    )
    expected = ops.batch_norm_inference_backward(
        p.grad, p.x, p.gamma, p.beta, mean, variance, **p.how
    )
    assert_same_bits(grad_x, expected[0])
    exact = ref.batch_norm_inference_backward(p.grad, p.x, p.gamma, p.beta, mean, variance, **p.how)
    root = 1 / np.sqrt(variance.astype(np.float64) + 1e-5)
    p.assert_gradients((expected[0], *sums_of), exact, p.gamma, root, mean)


@each_problem
def test_staged_reductions(make, device, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.1)
    mean, m2 = device.call("statistics", p.x, p.axis, {"mean": "channels", "m2": "channels"}, x=p.x)
    exact_mean, exact_m2, count = ref.batch_norm_statistics(p.x, p.axis)
    ref.assert_near(
        mean, exact_mean, ulps=2, scale=np.abs(exact_mean) + np.sqrt(exact_m2 / max(count, 1))
    )
    ref.assert_near(m2, exact_m2, ulps=4)

    mean, inv_std = saved_of(p)
    saved = {"gamma": p.gamma, "beta": p.beta, "mean": mean, "inv_std": inv_std}
    outputs = {"sum_grad": "channels", "sum_grad_xhat": "channels"}
    got = device.call(
        *("backward_reduce", p.x, p.axis, outputs), x=p.x, grad=p.grad, negative_slope=p.slope,
        **saved,
    )  # fmt: skip
    full = device.gradients("backward", p.x, x=p.x, grad=p.grad, **saved, **p.how)
    assert_same_bits(got[0], full[2])
    assert_same_bits(got[1], full[1])


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 5, 98), (7, 3, 8193)], ids=shape_id)
def test_running_statistics(make, device, shape, layout, unbiased):
    p = Problem(make, shape, np.float32, layout)
    running = make.normal((shape[1],)), make.uniform((shape[1],))
    _, _, _, *got = device.forward(
        p.x, None, None, running=running, momentum=0.3, unbiased_running_var=unbiased, **p.how
    )
    expected = ref.running_statistics(p.x, *running, 0.3, unbiased, p.axis)
    for actual, exact in zip(got, expected, strict=True):
        ref.assert_near(actual, exact, ulps=4, scale=1.0)


def test_running_statistics_stay_where_there_is_nothing(make, device):
    p = Problem(make, (0, 3, 4))
    running = make.normal((3,)), make.uniform((3,))
    _, mean, inv_std, *got = device.forward(p.x, None, None, running=running, **p.how)
    for actual, before in zip(got, running, strict=True):
        np.testing.assert_array_equal(actual, before)
    np.testing.assert_array_equal(mean, 0)
    ref.assert_near(inv_std, np.full(3, 1e-5**-0.5), ulps=1)


ACCURATE = [("NCHW", (4, 3, 2401)), ("NHWC", (1, 3, 8001))]


@pytest.mark.parametrize("outlier", [0.0, 1e5])
@pytest.mark.parametrize(
    ("layout", "shape"), ACCURATE, ids=lambda v: v if isinstance(v, str) else ""
)
def test_variance_is_accurate_far_from_zero(make, device, layout, shape, outlier):
    p = Problem(make, shape, np.float32, layout)
    x = (1e4 + make.normal(p.x.shape)).astype(np.float32)
    x.reshape(-1)[0] += outlier  # the very first element: no pivot may rest on it alone
    _, m2 = device.call("statistics", x, p.axis, {"mean": "channels", "m2": "channels"}, x=x)
    np.testing.assert_allclose(m2, ref.batch_norm_statistics(x, p.axis)[1], rtol=1e-5)


# ---- The same bits ----

CASES = (
    *(("NCHW", (5, 7, 49)), ("NCHW", (3, 2, 8193)), ("NCHW", (2, 40, 16))),
    *(("NHWC", (2, 12, 700)), ("NHWC", (3, 5, 343)), ("NHWC", (1, 130, 77))),
    # Groups of blocks that hold one channel or strip after the other, the last block fewer leaves.
    *(("NCHW", (7, 3, 8193)), ("NCHW", (9, 1, 8193)), ("NHWC", (20, 136, 77))),
)
each_case = pytest.mark.parametrize(
    ("layout", "shape"), CASES, ids=lambda v: v if isinstance(v, str) else shape_id(v)
)
each_dtype = pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)


def all_results(p, device):
    y, mean, inv_std = device.forward(p.x, p.gamma, p.beta, **p.how)
    saved = {"gamma": p.gamma, "beta": p.beta, "inv_std": inv_std}
    backward = device.gradients("backward", p.x, x=p.x, grad=p.grad, mean=mean, **saved, **p.how)
    from_output = device.gradients("backward_from_output", y, y_in=y, grad=p.grad, **saved, **p.how)
    return [y, mean, inv_std, *backward, *from_output]


@each_case
@each_dtype
def test_devices_and_places_in_memory_do_not_change_bits(make, simulator, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.1)
    expected = all_results(p, OnDevice(simulator, TWO_PASSES))
    for limits in DEVICES.values():
        for offset in (0, 1, 3):
            for actual, result in zip(
                all_results(p, OnDevice(simulator, limits, offset)), expected, strict=True
            ):
                assert_same_bits(actual, result)


@each_case
@pytest.mark.parametrize("name", DEVICES)
def test_schedules_do_not_change_bits(make, simulator, schedule, name, layout, shape):
    p = Problem(make, shape, ml_dtypes.bfloat16, layout, slope=0.1)
    expected = all_results(p, OnDevice(simulator, TWO_PASSES))
    simulator.schedule(*schedule)
    for actual, result in zip(
        all_results(p, OnDevice(simulator, DEVICES[name])), expected, strict=True
    ):
        assert_same_bits(actual, result)


@each_case
@each_dtype
def test_outputs_may_take_an_inputs_place(make, device, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.1)
    y, mean, inv_std = device.forward(p.x, p.gamma, p.beta, **p.how)
    in_place = device.forward(p.x, p.gamma, p.beta, in_place=True, **p.how)
    for actual, result in zip(in_place, (y, mean, inv_std), strict=True):
        assert_same_bits(actual, result)
    saved = {"gamma": p.gamma, "beta": p.beta, "mean": mean, "inv_std": inv_std}
    arrays = {"x": p.x, "grad": p.grad}
    expected = device.gradients("backward", p.x, **arrays, **saved, **p.how)
    for place in ("x", "grad"):
        got = device.gradients("backward", p.x, place, **arrays, **saved, **p.how)
        for actual, result in zip(got, expected, strict=True):
            assert_same_bits(actual, result)


@pytest.mark.parametrize(
    "shape", [(1, 1, 4_300_003), (5003, 101, 17)], ids=["runs", "folded_columns"]
)
def test_parts_of_several_leaves(make, simulator, shape):
    layout = "NHWC" if shape[1] > 1 else "NCHW"
    p = Problem(make, shape, np.float64, layout)
    mean, m2 = OnDevice(simulator, device_of(16)).call(
        "statistics", p.x, p.axis, {"mean": "channels", "m2": "channels"}, x=p.x
    )
    exact_mean, exact_m2, _ = ref.batch_norm_statistics(p.x, p.axis)
    ref.assert_near(mean, exact_mean, ulps=4, scale=2.0)
    ref.assert_near(m2, exact_m2, ulps=16)


# ---- Who computes what ----


def chosen(simulator, problem: ResidentProblem, limits: Limits) -> Schedule:
    schedule = Schedule()
    simulator.functions.simulated_schedule(
        ctypes.byref(problem), ctypes.byref(limits), ctypes.byref(schedule)
    )
    return schedule


LEAF, OTHER = 1 << 15, 12_000
H200 = device_of(132)


@pytest.mark.parametrize("units", [1, 3, 64, 256, 5000])
@pytest.mark.parametrize("leaves", [1, 2, 25, 196, 900, 10**6])
@pytest.mark.parametrize("limits", [*DEVICES.values(), device_of(40, kilobytes=64)])
def test_schedules_fit_the_device(simulator, units, leaves, limits):
    s = chosen(simulator, ResidentProblem(units, leaves, LEAF, OTHER, 2.0, 3.0), limits)
    if not s.fits:
        return
    assert s.group * s.leaves_per_block >= leaves > (s.group - 1) * s.leaves_per_block
    assert 1 <= s.groups <= units
    assert s.group == 1 or limits.cooperative
    assert s.shared_bytes == OTHER + (s.leaves_per_block - 1) * LEAF <= limits.shared_per_block
    blocks = limits.shared_per_multiprocessor // (s.shared_bytes + limits.shared_reserved)
    blocks = min(blocks, limits.blocks_per_multiprocessor)
    assert s.group * s.groups <= blocks * limits.multiprocessors


def test_large_images_stay_on_chip(simulator):
    """256 x 64 x 112 x 112 bfloat16 and 64 x 256 x 56 x 56 float32 on an H200."""
    first = chosen(simulator, ResidentProblem(64, 196, LEAF, OTHER, 2.0, 3.0), H200)
    second = chosen(simulator, ResidentProblem(256, 25, LEAF, OTHER, 2.0, 3.0), H200)
    for schedule, units, leaves in ((first, 64, 196), (second, 256, 25)):
        assert schedule.fits
        rounds = -(-units // schedule.groups)
        resident = 264
        assert units * leaves / (rounds * schedule.leaves_per_block * resident) > 0.8


def test_what_does_not_fit_takes_two_passes(simulator):
    assert not chosen(simulator, ResidentProblem(4, 2000, LEAF, OTHER, 2.0, 3.0), H200).fits
    assert not chosen(simulator, ResidentProblem(4, 10, LEAF, OTHER, 2.0, 3.0), TWO_PASSES).fits


def test_quotients_of_a_divisor_known_before_are_exact(simulator):
    function = simulator.functions.simulated_quotient
    function.restype = ctypes.c_int64
    largest = 2**63 - 1
    for divisor in (1, 2, 3, 7, 49, 12544, 2**31 - 1, 2**31 + 1, 2**62, largest):
        times = (0, 1, 2, 97, 10**6, largest // divisor)
        near = {k * divisor + d for k in times for d in (-1, 0, 1)}
        for n in sorted(n for n in near | {largest} if 0 <= n <= largest):
            quotient = function(ctypes.c_int64(n), ctypes.c_int64(divisor))
            assert quotient == n // divisor, (n, divisor)


def test_parts_depend_on_the_problem_alone_and_are_few(simulator):
    function = simulator.functions.simulated_leaves_per_part
    function.restype = ctypes.c_int64
    for strips, leaves, fold in (
        (1, 0, 1),
        (64, 196, 1),
        (1, 10**6, 1),
        (13, 5000, 4),
        (9000, 3, 8),
    ):
        each = function(*(ctypes.c_int64(n) for n in (strips, leaves, fold)))
        assert 1 <= each <= max(1, leaves)
        parts = -(-leaves // each)
        assert parts <= 1024 if fold == 1 else strips * (parts - 1) <= 2048


def test_one_launch_where_a_block_holds_a_channel(make, simulator):
    p = Problem(make, (3, 5, 98))
    device = OnDevice(simulator, device_of(16))
    before = simulator.counts.launches
    device.forward(p.x, p.gamma, p.beta, **p.how)
    assert simulator.counts.launches == before + 1
