"""What the CUDA kernels read and write of arrays: bytes, counted access by access.

Times are the GPU's to measure; how much memory must move for a result is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from batch_norm_on_device import DEVICES, TWO_PASSES, OnDevice
from optimizer_calls import Lists
from optimizer_cases import numpy_lists
from simulator import Simulator, Traffic, library

from fusednn import ops

LARGE = DEVICES["large"]


@pytest.fixture(scope="session")
def drivers_library() -> Simulator:
    return Simulator(library("fusednn_cuda_sim"))


@pytest.fixture
def simulator(drivers_library: Simulator) -> Iterator[Simulator]:
    drivers_library.reset()
    if drivers_library.sanitizer == "thread":
        pytest.skip("what is noted is shared by all simulated threads")
    yield drivers_library
    drivers_library.reset()


def batch_norm(device: OnDevice, function: str, shape: tuple[int, int, int], **how: Any) -> Traffic:
    """The traffic of one call with random arrays."""
    dtype, layout = how.pop("dtype", np.float32), how.pop("layout", "NCHW")
    rng = np.random.default_rng(0)
    axis = 1
    if layout == "NHWC":
        shape, axis = (shape[0], shape[2], shape[1]), 2
    x, grad = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    channels = shape[axis]
    numbers = {
        name: rng.uniform(0.5, 1.5, channels).astype(np.float32)
        for name in ("gamma", "beta", "mean", "inv_std", "running_mean", "running_var")
    }
    needs, outputs = CALLS[function]
    given = {"x": x, "y_in": x, "grad": grad, **numbers}
    inputs = {name: given[name] for name in needs}
    with device.simulator.traced() as traffic:
        device.call(
            *(function, x, axis, outputs), negative_slope=0.1, count=x.size // channels, **inputs,
        )  # fmt: skip
    return traffic


_AFFINE = ("gamma", "beta")
_SUMS = {"sum_grad_xhat": "channels", "sum_grad": "channels"}
_SAVED = ("mean", "inv_std")
_RUNNING = ("running_mean", "running_var")
#: What each function is given and gives.
CALLS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "forward": (("x", *_AFFINE), {"y": "full", "mean": "channels", "inv_std": "channels"}),
    "backward": (("grad", "x", *_AFFINE, *_SAVED), {"grad_x": "full", **_SUMS}),
    "backward_from_output": (
        ("grad", "y_in", *_AFFINE, "inv_std"),
        {"grad_x": "full", **_SUMS},
    ),
    "inference": (("x", *_AFFINE, *_RUNNING), {"y": "full"}),
    "inference_backward": (
        ("grad", "x", *_AFFINE, *_RUNNING),
        {"grad_x": "full", **_SUMS},
    ),
    "statistics": (("x",), {"mean": "channels", "m2": "channels"}),
    "apply": (("x", *_AFFINE, *_SAVED), {"y": "full"}),
    "backward_reduce": (("grad", "x", *_AFFINE, *_SAVED), dict(_SUMS)),
}
#: How often a function reads its inputs, kept on chip and in two passes, and whether it writes.
READS = {
    "forward": (1, 2, True),
    "backward": (1, 2, True),
    "backward_from_output": (1, 2, True),
    "inference": (1, 1, True),
    "inference_backward": (1, 1, True),
    "statistics": (1, 1, False),
    "apply": (1, 1, True),
    "backward_reduce": (1, 1, False),
}


def shape_of(layout: str, dtype: type) -> tuple[int, int, int]:
    """Outer, channels, inner: windows of 16 bytes are whole in every type.

    The device called "three" keeps several leaves in a block, in registers and shared memory: those
    of a channel, or in NHWC, where a row has so few channels, those of the whole array.
    """
    return (8 if layout == "NCHW" else 8 // np.dtype(dtype).itemsize, 3, 8000)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=lambda t: t.__name__)
@pytest.mark.parametrize("device_name", ["large", "three", "two_passes"])
@pytest.mark.parametrize("function", READS)
def test_passes_over_memory(simulator, function, device_name, dtype, layout):
    """1R + 1W forward and 2R + 1W backward where a channel fits, else 2R + 1W and 4R + 1W."""
    on_chip = device_name != "two_passes"
    device = OnDevice(simulator, DEVICES[device_name])
    traffic = batch_norm(device, function, shape_of(layout, dtype), dtype=dtype, layout=layout)
    kept, twice, writes = READS[function]
    full = {name: a for name, a in device.arrays.items() if len(a.shape) > 1}
    inputs = {"x", "y_in", "grad"} & full.keys()
    for name, array in full.items():
        moved = traffic.read(array) / array.nbytes, traffic.written(array) / array.nbytes
        expected = (kept if on_chip else twice, 0) if name in inputs else (0, int(writes))
        assert moved == expected, name
        assert set(traffic.of(array)["bytes"].tolist()) == {16}, name
    assert traffic.bytes == sum(traffic.read(a) + traffic.written(a) for a in full.values())


@pytest.mark.parametrize("function", ["forward", "backward"])
def test_images_of_7_x_7(simulator, function):
    """Windows in which an image ends and the next begins are read for both, and nothing else."""
    shape = (8, 5, 49)
    device = OnDevice(simulator, LARGE)
    traffic = batch_norm(device, function, shape)
    out = device.arrays["y" if function == "forward" else "grad_x"]
    assert traffic.written(out) == out.nbytes
    for name in ("x", "grad")[: 1 if function == "forward" else 2]:
        array = device.arrays[name]
        seams = shape[0] * shape[1] - 1
        assert array.nbytes <= traffic.read(array) <= array.nbytes + 16 * seams
        assert set(traffic.of(array)["bytes"].tolist()) == {16}
    # Windows across two images are written by two threads, each its own elements.
    assert set(traffic.of(out)["bytes"].tolist()) == {4, 16}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=lambda t: t.__name__)
@pytest.mark.parametrize("channels", [3, 5, 67])
def test_odd_channels_are_read_16_bytes_at_a_time(simulator, channels, dtype):
    """As many rows as fill whole windows are taken as one."""
    device = OnDevice(simulator, LARGE)
    traffic = batch_norm(device, "backward", (64, channels, 8), dtype=dtype, layout="NHWC")
    for name in ("x", "grad", "grad_x"):
        array = device.arrays[name]
        assert set(traffic.of(array)["bytes"].tolist()) == {16}
        assert traffic.read(array) + traffic.written(array) == array.nbytes


def leaves_in_order(traffic: Traffic, array: Any, launch: int, leaf_bytes: int) -> list[int]:
    """The leaves of an array that a launch reads, as its blocks come to them: in turns."""
    accesses = traffic.of(array)
    accesses = accesses[(accesses["launch"] == launch) & (accesses["writes"] == 0)]
    leaves = (accesses["address"] - array.pointer) // leaf_bytes
    by_block = [
        list(dict.fromkeys(leaves[accesses["block"] == block].tolist()))
        for block in np.unique(accesses["block"])
    ]
    return [n for turn in zip_longest(*by_block) for n in turn if n is not None]


@pytest.mark.parametrize(("function", "leaf_bytes"), [("forward", 32768), ("backward", 16384)])
def test_the_second_pass_is_the_first_in_a_mirror(simulator, function, leaf_bytes):
    """What was read last is read first, while it may still be in L2."""
    count = 12
    device = OnDevice(simulator, TWO_PASSES)
    traffic = batch_norm(device, function, (1, 1, count * leaf_bytes // 4))
    x = device.arrays["x"]
    first, second = np.unique(traffic.of(x)["launch"])
    assert leaves_in_order(traffic, x, first, leaf_bytes) == list(range(count))
    assert leaves_in_order(traffic, x, second, leaf_bytes) == list(range(count))[::-1]


# ---- Optimizers ----

SIZES = (5000, 0, 3, 256, 4097, 1030)
#: Optimizer, options, storage types, bytes for each parameter.
STEPS: list[tuple[str, dict[str, Any], dict[str, Any], int]] = [
    ("adam", {}, {}, 28),
    ("adam", {"amsgrad": True}, {}, 36),
    ("adam", {"weight_decay": 0.1, "grad_scale": 8.0, "clip_value": 0.1, "maximize": 1}, {}, 28),
    ("adam", {"ema_momentum": 0.9}, {}, 36),
    ("adam", {}, {"low_precision_copies": ml_dtypes.bfloat16}, 30),
    ("adam", {}, {"states": ml_dtypes.bfloat16}, 20),
    ("adam", {}, {"states": np.uint8}, 16),
    ("rmsprop", {}, {}, 20),
    ("rmsprop", {"momentum": 0.9}, {}, 28),
    ("rmsprop", {"momentum": 0.9, "centered": True}, {}, 36),
    ("sgd", {}, {}, 12),
    ("sgd", {"momentum": 0.9}, {}, 20),
    ("sgd", {"momentum": 0.9, "nesterov": 1}, {}, 20),
    ("adagrad", {}, {}, 20),
]


@pytest.fixture
def traced_gpu(gpu: Simulator) -> Simulator:
    if gpu.sanitizer == "thread":
        pytest.skip("what is noted is shared by all simulated threads")
    return gpu


def step(gpu: Simulator, lists: Lists, **options: Any) -> Traffic:
    with gpu.traced() as traffic:
        lists.step(1, lr=0.1, **options)
    return traffic


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("kind", "options", "dtypes", "each"), STEPS, ids=str)
def test_bytes_of_a_step(traced_gpu, kind, options, dtypes, each, offset):
    """Each parameter, gradient and state is read once and, but for gradients, written once."""
    gpu = traced_gpu
    lists = Lists.on(gpu, numpy_lists(kind, options, SIZES, dtypes), offset)
    traffic = step(gpu, lists, **options)
    assert traffic.bytes == each * sum(SIZES)
    for name, arrays in lists.arrays.items():
        for array in arrays:
            read, written = traffic.read(array), traffic.written(array)
            if name.endswith(".scales"):  # which are not told of
                assert (read, written) == (0, 0)
            else:
                assert written == (0 if name == "grads" else array.nbytes)
                assert read == (0 if name == "low_precision_copies" else array.nbytes)


@pytest.mark.parametrize(
    "options",
    [
        {"max_norm": 1.0},
        {"max_norm_each": 1.0},
        {"skip_nonfinite": 1},
        {"max_norm": 1.0, "skip_nonfinite": 1, "grad_scale": 2.0},
    ],
    ids=str,
)
def test_norms_are_one_more_read_of_the_gradients(traced_gpu, options):
    gpu = traced_gpu
    lists = Lists.on(gpu, numpy_lists("adam", {}, SIZES))
    traffic = step(gpu, lists, **options)
    assert traffic.bytes == (28 + 4) * sum(SIZES)
    for array in lists.arrays["grads"]:
        assert traffic.read(array) == 2 * array.nbytes
    for array in lists.arrays["params"]:
        assert (traffic.read(array), traffic.written(array)) == (array.nbytes, array.nbytes)


def test_found_inf_costs_nothing(traced_gpu):
    """Neither the gradients nor anything else is looked at."""
    gpu = traced_gpu
    lists = Lists.on(gpu, numpy_lists("adam", {}, SIZES))
    scalars = {"found_inf": gpu.array(np.ones(1, np.float32))}
    assert step(gpu, lists, max_norm=1.0, scalars=scalars).bytes == 0


def test_leaky_relu(traced_gpu):
    gpu = traced_gpu
    x, grad = (gpu.array(np.linspace(-1, 1, 4100, dtype=np.float32)) for _ in range(2))
    out = gpu.empty(x.shape)
    with gpu.traced() as traffic:
        ops.leaky_relu(x, 0.1, out=out)
    assert (traffic.read(x), traffic.written(out), traffic.bytes) == (
        x.nbytes, x.nbytes, 2 * x.nbytes,
    )  # fmt: skip
    with gpu.traced() as traffic:
        ops.leaky_relu_backward(grad, x, 0.1, out=out)
    assert (traffic.read(x), traffic.read(grad)) == (x.nbytes, x.nbytes)
    assert (traffic.written(out), traffic.bytes) == (x.nbytes, 3 * x.nbytes)
