"""Where arrays on a GPU come from, and the one stream that a call with them computes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulator import Described, DeviceArray, Simulator, dlpack_capsule
from stand_in_cupy import Module, Stream

from fusednn import _core, ops

SHAPE = (3, 4)
SLOPE = 0.5
LEGACY = 1  # the default stream, as DLPack and the interface count it
MANAGED = 13


class Told(DeviceArray):
    """Names no stream itself: what DLPack is told is all that its producer knows."""

    device_type = 2

    def __init__(self, *of_array: Any) -> None:
        super().__init__(*of_array)
        self.told: list[Any] = []

    @property
    def __cuda_array_interface__(self):
        raise AttributeError

    def __dlpack_device__(self):
        return self.device_type, self.device

    def __dlpack__(self, *, stream=None, max_version=None):
        self.told.append(stream)
        kind = self.device_type
        return dlpack_capsule(
            self.pointer, self.shape, self.dtype, self._exports, self.device, device_type=kind
        )


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, SLOPE * x)


def of(kind: type[DeviceArray], gpu: Simulator, stream: int | None = None) -> DeviceArray:
    array = kind(gpu, SHAPE, np.dtype("float32"))
    array.set(values())
    array.stream = stream
    return array


# ---- what is told, and who waits for whom


@pytest.mark.parametrize("device_type", [2, MANAGED], ids=["memory", "managed"])
def test_producers_are_told_the_stream_that_computes(gpu, device_type):
    stream = gpu.new_stream()
    x, out = of(DeviceArray, gpu, stream), of(Told, gpu)
    out.device_type = device_type
    ops.leaky_relu(x, SLOPE, out=out)
    ops.leaky_relu(out, SLOPE, out=out)
    assert out.told == [stream, LEGACY, LEGACY]
    np.testing.assert_array_equal(out.get(), leaky(leaky(values())))
    assert gpu.waits == []


def test_who_names_a_stream_is_asked_not_to_wait(gpu):
    x = of(Told, gpu)
    x.__class__ = type("Named", (Told,), {"__cuda_array_interface__": {"stream": LEGACY}})
    ops.leaky_relu(x, SLOPE, out=x)
    assert x.told == [-1, -1]
    assert gpu.waits == []  # its stream is the call's


@pytest.mark.parametrize("first", ["default", "own"])
def test_the_first_arrays_stream_computes_and_others_are_waited_for(gpu, first):
    streams = [gpu.new_stream() for _ in range(2)]
    if first == "default":
        streams[0] = 0
    x, grad, out = (of(DeviceArray, gpu, s or None) for s in (*streams, streams[1]))
    told = of(Told, gpu)
    one, other = streams
    ops.leaky_relu_backward(grad, x, SLOPE, out=out)
    # `grad` and `out` have one stream, `x` the other, which names none where it is the default.
    waits = [(other, one), (one, other)]
    assert gpu.waits == ([] if first == "default" else waits)
    gpu.reset()
    ops.leaky_relu_backward(x, grad, SLOPE, out=told)
    assert told.told == [one or LEGACY]
    assert gpu.waits == [(one, other), (other, one)]


def test_each_stream_is_waited_for_once(gpu):
    one, other, third = (gpu.new_stream() for _ in range(3))
    params = [of(DeviceArray, gpu, one) for _ in range(3)]
    grads = [of(DeviceArray, gpu, s) for s in (other, third, other)]
    ops.sgd_step(params, grads, None, step=1, lr=0.5)
    assert gpu.waits == [(one, other), (one, third), (other, one), (third, one)]
    for param in params:
        np.testing.assert_array_equal(param.get(), values() - np.float32(0.5) * values())


def test_a_stream_of_another_device_is_not_waited_for(gpu):
    gpu.set(devices=2)
    x, out = (of(DeviceArray, gpu, gpu.new_stream()) for _ in range(2))
    out.device = 1
    with pytest.raises(ValueError, match=r"`out` must be on the device of .*, cuda:0\. .*cuda:1"):
        ops.leaky_relu(x, SLOPE, out=out)
    assert gpu.waits == []


def test_a_captured_call_waits_for_no_stream_outside_its_graph(gpu):
    x, out = of(DeviceArray, gpu, gpu.new_stream()), of(DeviceArray, gpu, gpu.new_stream())
    before = out.get()
    gpu.set(outside_capture=out.stream)
    message = (
        rf"`out` must be usable on the stream of the call's first array on the GPU, {x.stream}\. "
        rf"Received: type=DeviceArray, on stream {out.stream}: .*cudaErrorStreamCaptureIsolation"
    )
    with gpu.capture(), pytest.raises(RuntimeError, match=message):
        ops.leaky_relu(x, SLOPE, out=out)
    gpu.replay()
    np.testing.assert_array_equal(out.get(), before)
    assert gpu.waits == []
    gpu.set(outside_capture=0)
    with gpu.capture():
        ops.leaky_relu(x, SLOPE, out=out)
    gpu.replay()
    np.testing.assert_array_equal(out.get(), leaky(values()))


def test_a_call_that_fails_leaves_later_calls_their_streams(gpu):
    one, other = gpu.new_stream(), gpu.new_stream()
    x, out = of(DeviceArray, gpu, one), of(Told, gpu)
    with pytest.raises(ValueError, match="`negative_slope` must be finite"):
        ops.leaky_relu(x, float("nan"), out=out)
    x.stream = other
    ops.leaky_relu(x, SLOPE, out=out)
    assert out.told[-1] == other


def test_the_copy_kernel_has_one_stream_too(gpu):
    one, other = gpu.new_stream(), gpu.new_stream()
    x, out = gpu.array(np.arange(64, dtype=np.float32)), gpu.empty(64)
    x.stream, out.stream = one, other
    _core.stream([x], [], out, False)
    assert gpu.waits == [(one, other), (other, one)]
    np.testing.assert_array_equal(out.get(), np.arange(64))


# ---- packages


def test_the_stream_is_that_of_the_arrays_device_in_cupy(gpu, cupy: Module):
    gpu.set(devices=2)
    one, other = gpu.new_stream(), gpu.new_stream()
    Stream.current[0].append(Stream(cupy.runtime, one))
    Stream.current[1].append(Stream(cupy.runtime, other, 1))
    x = cupy.empty(SHAPE, np.float32)
    x.set(values())
    for device, stream in enumerate((one, other)):
        x.device = SimpleNamespace(id=device)
        out = of(Told, gpu)
        out.device = device
        ops.leaky_relu(x, SLOPE, out=out)
        assert out.told == [stream]
        np.testing.assert_array_equal(out.get(), leaky(values()))
    out.device = 0
    with pytest.raises(ValueError, match=r"`out` must be on the device of .*, cuda:1\. .*cuda:0"):
        ops.leaky_relu(x, SLOPE, out=out)


class TorchCuda:
    """Stands for `torch.cuda`: PyTorch has no arrays on the simulated device."""

    def __init__(self, streams: list[int]) -> None:
        self.streams, self.current = streams, 0

    def current_stream(self, device: int) -> SimpleNamespace:
        return SimpleNamespace(cuda_stream=self.streams[device])

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        before, self.current = self.current, index
        yield
        self.current = before


@pytest.fixture
def torch_cuda(gpu, monkeypatch) -> TorchCuda:
    gpu.set(devices=2)
    cuda = TorchCuda([gpu.new_stream(), gpu.new_stream()])
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "torch.cuda", cuda)
    return cuda


def tensor_of(gpu: Simulator, cuda: TorchCuda, device: int = 0) -> DeviceArray:
    """A tensor of a subclass of PyTorch's, handed out as PyTorch does it."""

    class Tensor(DeviceArray):
        def __dlpack__(self, **how):
            if self.device != cuda.current:
                raise BufferError("Can't export tensors on a different CUDA device index.")
            return super().__dlpack__(**how)

    Tensor.__module__ = "torch"
    x = of(type("Parameter", (Tensor,), {"__module__": "torch.nn"}), gpu)
    x.device = device
    return x


@pytest.mark.parametrize("device", [0, 1])
def test_subclasses_of_pytorchs_tensors_follow_its_stream(gpu, torch_cuda, device):
    x, out = tensor_of(gpu, torch_cuda, device), of(Told, gpu)
    out.device = device
    ops.leaky_relu(x, SLOPE, out=out)
    assert out.told == [torch_cuda.streams[device]]
    assert torch_cuda.current == 0
    np.testing.assert_array_equal(out.get(), leaky(values()))


def test_pytorchs_current_device_is_that_of_before_after_a_failure(gpu, torch_cuda):
    x = tensor_of(gpu, torch_cuda, 1)
    x.dtype = np.dtype("int32")
    with pytest.raises(TypeError, match="`x` must be float32"):
        ops.leaky_relu(x, SLOPE, out=x)
    assert torch_cuda.current == 0


def test_packages_are_mixed(gpu, cupy: Module):
    stream, others = gpu.new_stream(), gpu.new_stream()
    out = cupy.empty(SHAPE, np.float32)
    x = Described(of(DeviceArray, gpu), stream=others)
    with Stream(cupy.runtime, stream):
        ops.leaky_relu(x, SLOPE, out=out)
        assert gpu.waits == [(others, stream), (stream, others)]
        np.testing.assert_array_equal(out.get(), leaky(values()))
        gpu.reset()
        ops.leaky_relu(out, SLOPE, out=x)
        assert gpu.waits == [(stream, others), (others, stream)]
        np.testing.assert_array_equal(x.of.get(), leaky(leaky(values())))


# ---- the CUDA array interface


@pytest.mark.parametrize("version", range(4))
@pytest.mark.parametrize("stream", [None, 1, 2, "own"])
def test_arrays_that_have_the_interface_alone(gpu, version, stream):
    number = gpu.new_stream() if stream == "own" else stream
    x = Described(of(DeviceArray, gpu), version=version, stream=number, strides=None, mask=None)
    out, told = Described(gpu.empty(SHAPE), strides=(16, 4)), of(Told, gpu)
    ops.leaky_relu(x, SLOPE, out=out)
    np.testing.assert_array_equal(out.of.get(), leaky(values()))
    ops.leaky_relu(x, SLOPE, out=told)
    assert told.told == [number or LEGACY]
    assert gpu.waits == []


def test_the_interfaces_strides_are_followed(gpu):
    x = of(DeviceArray, gpu)
    transposed = Described(x, shape=SHAPE[::-1], strides=(4, 16))
    out = Described(gpu.empty(SHAPE), shape=SHAPE[::-1], strides=[4, 16])
    ops.leaky_relu(transposed, SLOPE, out=out)
    np.testing.assert_array_equal(out.of.get(), leaky(values()))


def test_memory_is_on_the_device_that_cuda_says(gpu):
    gpu.set(devices=2, memory_of=1)
    x, out = Described(of(DeviceArray, gpu)), of(Told, gpu)
    message = r"`out` must be on the device of the other arrays, cuda:1\. Received: device=cuda:0"
    with pytest.raises(ValueError, match=message):
        ops.leaky_relu(x, SLOPE, out=out)
    out.device = 1
    ops.leaky_relu(x, SLOPE, out=out)
    np.testing.assert_array_equal(out.get(), leaky(values()))


def test_managed_memory(gpu):
    """It may be that of a device as of the host; who has the CUDA interface means the device."""
    gpu.set(devices=2, memory_of=1, managed=1)
    x, out = Described(of(DeviceArray, gpu)), of(Told, gpu)
    out.device, out.device_type = 1, MANAGED
    ops.leaky_relu(x, SLOPE, out=out)
    np.testing.assert_array_equal(out.get(), leaky(values()))
    ops.leaky_relu(out, SLOPE, out=x)
    np.testing.assert_array_equal(x.of.get(), leaky(leaky(values())))


def test_no_elements_need_no_memory(gpu):
    nothing = Described(of(DeviceArray, gpu), shape=(0, 4), data=(0, False))
    ops.leaky_relu(nothing, SLOPE, out=nothing)


BROKEN = {
    "masked": ({"mask": np.ones(SHAPE, bool)}, ValueError, "`x` must have no mask"),
    "future": ({"version": 4}, ValueError, r"\['version'\]` must be an integer from 0 to 3.*: 4"),
    "version": ({"version": "3"}, TypeError, r"\['version'\]` must be an integer.*: '3'"),
    "big endian": ({"typestr": ">f4"}, TypeError, "`x` must be float32.*dtype=>f4"),
    "integers": ({"typestr": "<i4"}, TypeError, "`x` must be float32.*dtype=<i4"),
    "no string": ({"typestr": 4}, TypeError, r"\['typestr'\]` must be a string. Received: 4"),
    "no tuple": ({"shape": 12}, TypeError, r"\['shape'\]` must be a tuple of integers.*: 12"),
    "size": ({"shape": (3, -4)}, ValueError, r"\['shape'\]` must be .* at least 0.*: \(3, -4\)"),
    "large": ({"shape": (3, 2**70)}, ValueError, r"\['shape'\]` must be a tuple of integers"),
    "many axes": ({"shape": (1,) * 65}, ValueError, "`x` must have from 0 to 64 axes.*ndim=65"),
    "all memory": ({"shape": (2**40, 2**40)}, ValueError, r"`x` must have fewer than 2\^63 bytes"),
    "fraction": ({"shape": (3, 4.0)}, TypeError, r"\['shape'\]` must be .*: \(3, 4\.0\)"),
    "few strides": ({"strides": (4,)}, ValueError, r"\['strides'\]` must be .* each axis.*\(4,\)"),
    "odd strides": ({"strides": (16, 6)}, ValueError, "`x` must have strides.* a stride of 6"),
    "strides": ({"strides": "16"}, TypeError, r"\['strides'\]` must be None, or a tuple.*'16'"),
    "no pair": ({"data": 4096}, TypeError, r"\['data'\]` must be a tuple of an address.*: 4096"),
    "no address": ({"data": (None, False)}, TypeError, r"\['data'\]` must be .*\(None, False\)"),
    "null": ({"data": (0, False)}, ValueError, r"\['data'\]` must have the address of memory"),
    "the host's": ({"data": (64, False)}, ValueError, r"\['data'\]` must have the address of"),
    "stream": ({"stream": 0}, ValueError, r"\['stream'\]` must be None, 1 .*Received: 0"),
    "no stream": ({"stream": "s"}, TypeError, r"\['stream'\]` must be None, 1 .*Received: 's'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_interfaces_are_refused_by_name(gpu, kind):
    entries, error, message = BROKEN[kind]
    out = of(DeviceArray, gpu)
    if message.startswith(r"\["):
        message = "`x.__cuda_array_interface__" + message
    with pytest.raises(error, match=message):
        ops.leaky_relu(Described(out, **entries), SLOPE, out=out)
    np.testing.assert_array_equal(out.get(), values())
    assert gpu.counts.launches == 0


@pytest.mark.parametrize("entry", ["shape", "typestr", "data", "version"])
def test_entries_that_lack_are_named(gpu, entry):
    x = Described(of(DeviceArray, gpu))
    del x.__cuda_array_interface__[entry]
    message = rf"`x\.__cuda_array_interface__` must have the entry '{entry}'\. Received: \['"
    with pytest.raises(ValueError, match=message):
        ops.leaky_relu(x, SLOPE, out=x.of)


def test_interfaces_that_are_none(gpu):
    x, out = Described(of(DeviceArray, gpu)), of(DeviceArray, gpu)
    x.__cuda_array_interface__ = [1]
    with pytest.raises(TypeError, match=r"`x\.__cuda.*` must be a dictionary. Received: type=list"):
        ops.leaky_relu(x, SLOPE, out=out)

    class Gone:
        @property
        def __cuda_array_interface__(self):
            raise ValueError("its memory is gone\nand more")

    message = (
        r"`x` must be an array that the CUDA array .*type=Gone, which says: its memory is gone$"
    )
    with pytest.raises(ValueError, match=message):
        ops.leaky_relu(Gone(), SLOPE, out=out)


def test_read_only_interfaces_are_not_written(gpu):
    out = Described(of(DeviceArray, gpu), data=None)
    out.__cuda_array_interface__["data"] = (out.of.pointer, True)
    with pytest.raises(ValueError, match="`out` must be writable"):
        ops.leaky_relu(of(DeviceArray, gpu), SLOPE, out=out)
    np.testing.assert_array_equal(out.of.get(), values())
