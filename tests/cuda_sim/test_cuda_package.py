"""`fusednn.ops` on arrays of the simulated device: the whole way of a call."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from simulator import DeviceArray, Simulator, dlpack_capsule

from fusednn import _core, ops

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SHAPES = [((4, 6, 5, 3), 1), ((3, 5, 4, 7), 3), ((33, 100), 1), ((2, 3, 7, 7), 1), ((130, 7), 1)]
SLOPE = 0.1


class Problem:
    """Arguments of BatchNorm as NumPy arrays and on the device."""

    def __init__(self, gpu: Simulator, shape: tuple[int, ...], axis: int, dtype: type) -> None:
        rng = np.random.default_rng(len(shape) + axis)
        kind = np.float64 if dtype == np.float64 else np.float32
        self.gpu, self.shape, self.axis, self.dtype, self.kind = gpu, shape, axis, dtype, kind
        channels = (shape[axis],)
        self.x, self.grad = (rng.normal(1, 2, shape).astype(dtype) for _ in range(2))
        self.gamma, self.beta = (rng.uniform(0.5, 2, channels).astype(kind) for _ in range(2))
        self.mean, self.var = (rng.uniform(0.5, 2, channels).astype(kind) for _ in range(2))

    def empty(self, count: int) -> tuple:
        """A full-size output and `count` per channel."""
        channels = [self.gpu.empty(self.shape[self.axis], self.kind) for _ in range(count)]
        return self.gpu.empty(self.shape, self.dtype), *channels

    def on_gpu(self, *names: str) -> list:
        return [self.gpu.array(getattr(self, name)) for name in names]

    def options(self) -> dict:
        return {"negative_slope": SLOPE, "channel_axis": self.axis}


@pytest.fixture(params=SHAPES, ids=lambda s: "x".join(map(str, s[0])) + f"-axis{s[1]}")
def shape(request: pytest.FixtureRequest) -> tuple[tuple[int, ...], int]:
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda d: np.dtype(d).name)
def problem(request: pytest.FixtureRequest, gpu: Simulator, shape) -> Problem:
    return Problem(gpu, *shape, request.param)


def tolerance(dtype: type) -> float:
    """Of a result of about 1, whose sums were taken in another order."""
    return 1e-12 if dtype == np.float64 else 1e-5 if dtype == np.float32 else 2e-2


def assert_close(device, expected: np.ndarray, dtype: type) -> None:
    expected = expected.astype(np.float64)
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    error = np.abs(device.get().astype(np.float64) - expected).max(initial=0.0)
    assert error <= tolerance(dtype) * scale


def assert_same_bits(device, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(device.get().view(np.uint8), expected.view(np.uint8))


def test_forward_and_backward(problem):
    p = problem
    running = p.on_gpu("mean", "var")
    y, mean, inv_std = p.empty(2)
    x, gamma, beta, grad = p.on_gpu("x", "gamma", "beta", "grad")
    statistics = {"running_mean": running[0], "running_var": running[1]}
    results = ops.batch_norm_forward(
        x, gamma, beta, **statistics, **p.options(), out=(y, mean, inv_std)
    )
    assert results == (y, mean, inv_std)
    own = {"running_mean": p.mean.copy(), "running_var": p.var.copy()}
    expected = ops.batch_norm_forward(p.x, p.gamma, p.beta, **own, **p.options())
    for ours, theirs in zip((*results, *running), (*expected, *own.values()), strict=True):
        assert_close(ours, theirs, p.dtype)

    outputs = p.empty(2)
    ops.batch_norm_backward(grad, x, gamma, beta, mean, inv_std, **p.options(), out=outputs)
    saved = mean.get(), inv_std.get()
    gradients = ops.batch_norm_backward(p.grad, p.x, p.gamma, p.beta, *saved, **p.options())
    for ours, theirs in zip(outputs, gradients, strict=True):
        assert_close(ours, theirs, p.dtype)

    outputs = p.empty(2)
    ops.batch_norm_backward_from_output(grad, y, gamma, beta, inv_std, **p.options(), out=outputs)
    gradients = ops.batch_norm_backward_from_output(
        p.grad, y.get(), p.gamma, p.beta, saved[1], **p.options()
    )
    for ours, theirs in zip(outputs, gradients, strict=True):
        assert_close(ours, theirs, p.dtype)


def test_inference(problem):
    p = problem
    x, grad, gamma, beta, mean, var = p.on_gpu("x", "grad", "gamma", "beta", "mean", "var")
    (y,) = p.empty(0)
    ops.batch_norm_inference(x, gamma, beta, mean, var, **p.options(), out=y)
    given = p.gamma, p.beta, p.mean, p.var
    assert_same_bits(y, ops.batch_norm_inference(p.x, *given, **p.options()))
    outputs = p.empty(2)
    ops.batch_norm_inference_backward(grad, x, gamma, beta, mean, var, **p.options(), out=outputs)
    expected = ops.batch_norm_inference_backward(p.grad, p.x, *given, **p.options())
    assert_same_bits(outputs[0], expected[0])
    for ours, theirs in zip(outputs[1:], expected[1:], strict=True):
        assert_close(ours, theirs, p.dtype)


@pytest.mark.parametrize("kind", [np.float32, np.float64], ids=lambda d: np.dtype(d).name)
def test_merged_statistics_have_the_bits_of_the_cpu(gpu, kind):
    rng = np.random.default_rng(3)
    channels = 300
    parts = [
        (rng.normal(size=channels).astype(kind), rng.uniform(0, 9, channels).astype(kind), count)
        for count in (7, 0, 100_000, 1)
    ]
    on_gpu = [(gpu.array(mean), gpu.array(m2), count) for mean, m2, count in parts]
    mean, m2 = gpu.empty(channels, kind), gpu.empty(channels, kind)
    assert _core.merge_statistics(on_gpu, mean, m2) == 100_008
    expected = ops.merge_statistics(parts)
    assert_same_bits(mean, expected[0])
    assert_same_bits(m2, expected[1])


def test_global_norm(gpu):
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=size).astype(np.float32) for size in (5, 0, 9000)]
    norm = ops.global_norm([gpu.array(a) for a in arrays])
    assert norm == pytest.approx(ops.global_norm(arrays), rel=1e-12)


def test_arrays_of_two_devices_are_refused(gpu):
    x = gpu.array(np.ones((4, 3), np.float32))
    message = "must be on the device of the other arrays, cuda:0. Received: device=cpu"
    with pytest.raises(ValueError, match=f"`out` {message}"):
        ops.leaky_relu(x, out=np.empty((4, 3), np.float32))
    outputs = (gpu.empty((4, 3)), gpu.empty(3), gpu.empty(3))
    with pytest.raises(ValueError, match=f"`gamma` {message}"):
        ops.batch_norm_forward(x, np.ones(3, np.float32), None, out=outputs)
    p, g = gpu.array(np.ones(5, np.float32)), np.ones(5, np.float32)
    with pytest.raises(ValueError, match=rf"`grads\[0\]` {message}"):
        ops.sgd_step([p], [g], None, step=1, lr=0.1)


def test_misaligned_elements_are_refused(gpu):
    x = gpu.array(np.ones(5, np.float32), offset=2)
    with pytest.raises(ValueError, match=r"`x` must be aligned to its element size, 4, on a GPU"):
        ops.leaky_relu(x, out=gpu.empty(5))


def test_calls_do_not_wait_for_the_device(gpu):
    p = Problem(gpu, (40, 300), 1, np.float32)
    x, gamma, beta = p.on_gpu("x", "gamma", "beta")
    out = p.empty(2)
    ops.batch_norm_forward(x, gamma, beta, out=out)
    before = gpu.counts
    for _ in range(3):
        ops.batch_norm_forward(x, gamma, beta, out=out)
    after = gpu.counts
    assert after.synchronisations == before.synchronisations
    assert after.allocations == before.allocations


def test_calls_of_one_graph_share_a_workspace_that_no_other_call_has(gpu):
    p = Problem(gpu, (40, 900), 1, np.float32)
    x, gamma, beta, grad = p.on_gpu("x", "gamma", "beta", "grad")
    out, gradients = p.empty(2), p.empty(2)

    def step():
        ops.batch_norm_forward(x, gamma, beta, **p.options(), out=out)
        saved = out[1:]
        ops.batch_norm_backward(grad, x, gamma, beta, *saved, **p.options(), out=gradients)

    step()
    expected = [a.get() for a in (*out, *gradients)]
    with gpu.capture():
        step()
    nothing, others = gpu.empty((40, 900)), p.empty(2)
    allocations = gpu.counts.allocations
    for _ in range(2):
        ops.batch_norm_forward(nothing, gamma, beta, out=others)
    assert gpu.counts.allocations == allocations + 1  # the graph has what the step had
    for a in (*out, *gradients):
        a.set(np.full(a.shape, np.nan, np.float32))
    gpu.replay()
    for ours, theirs in zip((*out, *gradients), expected, strict=True):
        assert_same_bits(ours, theirs)


def test_a_call_that_is_captured_first_has_memory_of_the_graph(gpu, monkeypatch):
    monkeypatch.setattr(DeviceArray, "stream", gpu.new_stream())
    p = Problem(gpu, (40, 900), 1, np.float32)
    x, gamma, beta = p.on_gpu("x", "gamma", "beta")
    out = p.empty(2)
    with gpu.capture():
        for _ in range(2):
            ops.batch_norm_forward(x, gamma, beta, **p.options(), out=out)
    for _ in range(2):
        gpu.replay()
    expected = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.options())
    for ours, theirs in zip(out, expected, strict=True):
        assert_close(ours, theirs, np.float32)


class Unversioned(DeviceArray):
    """Exports itself as CuPy's arrays did before DLPack 1.0."""

    def __dlpack__(self, *, stream=None):
        return dlpack_capsule(
            self.pointer, self.shape, self.dtype, self._exports, self.device, versioned=False
        )


def test_arrays_without_a_word_on_whether_they_may_be_written(gpu, cupy, monkeypatch):
    x = gpu.array(np.array([1, -1], np.float32))
    x.__class__ = Unversioned
    with pytest.raises(ValueError, match="`out` must be writable"):
        ops.leaky_relu(x, 0.5, out=x)
    monkeypatch.setattr(Unversioned, "__module__", "cupy")
    ops.leaky_relu(x, 0.5, out=x)
    np.testing.assert_array_equal(x.get(), [1, -0.5])


class Described:
    """A part of a device's array as the CUDA array interface has it, in which strides are bytes."""

    def __init__(self, of, shape, strides=None, *, offset=0, read_only=False):
        self.of = of
        self.interface = {
            "shape": shape,
            "typestr": of.dtype.str,
            "data": (of.pointer + offset, read_only),
            "strides": strides,
            "version": 3,
        }

    __cuda_array_interface__ = property(lambda self: self.interface)


def test_what_the_cuda_array_interface_describes_is_refused_as_arrays_of_the_cpu_are(gpu):
    values = np.linspace(-1, 1, 24, dtype=np.float32)
    line = gpu.array(values)
    x, out = gpu.array(values[:12].reshape(4, 3)), gpu.array(np.full((4, 3), 7, np.float32))
    for strides, elements in (((24, 8), "6, 2"), ((0, 4), "0, 1"), ((12, -4), "3, -1")):
        view = Described(line, (4, 3), strides, offset=8)
        with pytest.raises(ValueError, match=rf"`x` must be dense.*strides=\({elements}\)"):
            ops.leaky_relu(view, 0.5, out=out)
        with pytest.raises(ValueError, match=rf"`out` must be dense.*strides=\({elements}\)"):
            ops.leaky_relu(x, 0.5, out=view)
    with pytest.raises(ValueError, match="`x` must have strides that are multiples of its element"):
        ops.leaky_relu(Described(line, (2, 3), (14, 4)), 0.5, out=out)
    with pytest.raises(ValueError, match="`out` must be writable"):
        ops.leaky_relu(x, 0.5, out=Described(line, (4, 3), read_only=True))
    with pytest.raises(ValueError, match="`out` must not overlap `x`"):
        ops.leaky_relu(Described(line, (4, 3)), 0.5, out=Described(line, (4, 3), offset=16))
    np.testing.assert_array_equal(line.get(), values)
    np.testing.assert_array_equal(out.get(), 7)
    ops.leaky_relu(Described(line, (4, 3), (12, 4)), 0.5, out=out)
    np.testing.assert_array_equal(out.get().ravel(), np.where(values > 0, values, values / 2)[:12])
