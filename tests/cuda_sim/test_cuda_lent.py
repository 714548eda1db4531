"""What programs lend calls on the GPU: memory for workspaces, and fewer multiprocessors."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from simulator import DeviceArray, Simulator
from stand_in_cupy import Module

import fusednn
from fusednn import _core, ops

#: Its channels are kept on chip by groups of blocks: of one multiprocessor there are too few.
SHAPE = (16, 3, 5000)


class Layer:
    """BatchNorm's arrays on the simulated device."""

    def __init__(self, gpu: Simulator, kind: type = DeviceArray) -> None:
        rng = np.random.default_rng(3)
        values = [
            rng.normal(size=SHAPE),
            np.full(SHAPE, np.nan),
            *(np.full(SHAPE[1], np.nan) for _ in range(2)),
        ]
        self.x, *out = (kind(gpu, v.shape, np.dtype(np.float32)) for v in values)
        self.out = tuple(out)
        self.x.set(values[0])

    def forward(self) -> list[np.ndarray]:
        ops.batch_norm_forward(self.x, None, None, out=self.out)
        return [array.get() for array in self.out]


class Lender:
    """An allocator of the user's own."""

    def __init__(self, gpu: Simulator) -> None:
        self.gpu = gpu
        self.calls: list[tuple] = []
        self.lent: dict[int, DeviceArray] = {}

    def allocate(self, bytes: int, device: int, stream: int) -> int:
        memory = self.gpu.empty(bytes, np.uint8)
        self.lent[memory.pointer] = memory
        self.calls.append((bytes, device, stream))
        return memory.pointer

    def release(self, pointer: int, bytes: int, device: int, stream: int) -> None:
        del self.lent[pointer]
        self.calls.append((bytes, device, stream))


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def launches_of(gpu: Simulator, layer: Layer) -> int:
    before = gpu.counts.launches
    layer.forward()
    return gpu.counts.launches - before


def test_spare_multiprocessors(gpu):
    layer = Layer(gpu)
    expected = layer.forward()
    resident = launches_of(gpu, layer)
    with fusednn.cuda_settings(spare_multiprocessors=3):
        assert launches_of(gpu, layer) > resident  # two passes: what waits does not fit any more
        assert_same(layer.forward(), expected)
    with fusednn.cuda_settings(spare_multiprocessors=1_000_000):  # one is left in any case
        assert_same(layer.forward(), expected)
    assert launches_of(gpu, layer) == resident


def test_memory_of_an_allocator(gpu):
    layer, lender = Layer(gpu), Lender(gpu)
    expected = layer.forward()
    stream = gpu.new_stream()
    layer.x.stream = layer.out[-1].stream = stream
    with fusednn.cuda_settings(workspace=lender):
        assert_same(layer.forward(), expected)
    (taken, given) = lender.calls
    assert taken == given
    assert taken[0] > 0
    assert taken[1] == 0
    assert not lender.lent
    before = gpu.counts.allocations
    layer.forward()  # the library keeps none for this stream yet
    assert gpu.counts.allocations == before + 1
    assert len(lender.calls) == 2


def test_merged_statistics_have_the_allocators_memory(gpu):
    lender = Lender(gpu)
    parts = [(*(gpu.array(np.ones(3, np.float32)) for _ in range(2)), n) for n in (4, 5)]
    out = [gpu.empty(3) for _ in range(2)]
    with fusednn.cuda_settings(workspace=lender):
        assert _core.merge_statistics(parts, *out) == 9
    assert len(lender.calls) == 2


def fails(*_: object) -> int:
    raise ValueError("nothing left")


@pytest.mark.parametrize(
    ("allocate", "cause"),
    [
        (fails, "nothing left"),
        (lambda *_: 0, None),
        (lambda *_: "no address", "invalid literal for int"),
        (lambda *_: 4104, r"`allocate` must return a multiple of 256\. Received: 4104"),
    ],
)
def test_an_allocation_that_fails(gpu, allocate, cause):
    layer = Layer(gpu)
    given_back = []
    lender = SimpleNamespace(allocate=allocate, release=lambda *given: given_back.append(given[0]))
    with (
        fusednn.cuda_settings(workspace=lender),
        pytest.raises(MemoryError, match=r"^batch_norm: out of memory") as raised,
    ):
        layer.forward()
    if cause is None:
        assert raised.value.__cause__ is None
    else:
        assert isinstance(raised.value.__cause__, ValueError)
        assert re.match(cause, str(raised.value.__cause__))
    assert given_back == ([4104] if "256" in str(cause) else [])
    assert all(np.isnan(array.get()).all() for array in layer.out)


def test_memory_that_cannot_be_given_back(gpu):
    layer, lender = Layer(gpu), Lender(gpu)
    expected = layer.forward()

    def fail(*_: object) -> None:
        raise ValueError("not mine")

    lender.release = fail
    told = []
    hook, sys.unraisablehook = sys.unraisablehook, told.append
    try:
        with fusednn.cuda_settings(workspace=lender):
            assert_same(layer.forward(), expected)
    finally:
        sys.unraisablehook = hook
    assert [str(each.exc_value) for each in told] == ["not mine"]


def test_memory_of_pytorch(gpu, monkeypatch):
    """PyTorch's functions are stood in for: it has no arrays on the simulated device."""
    lender = Lender(gpu)
    stream = gpu.new_stream()
    cuda = SimpleNamespace(
        current_stream=lambda device: SimpleNamespace(cuda_stream=stream),
        device=lambda index: nullcontext(),
        caching_allocator_alloc=lender.allocate,
        caching_allocator_delete=lambda pointer: lender.release(pointer, 0, 0, 0),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "torch.cuda", cuda)
    kind = type("Tensor", (DeviceArray,), {"__module__": "torch"})
    layer = Layer(gpu, kind)
    expected = layer.forward()
    with fusednn.cuda_settings(workspace="package"):
        assert_same(layer.forward(), expected)
        assert_same(Layer(gpu).forward(), expected)  # of no package that lends any
    assert [call[1:] for call in lender.calls] == [(0, stream), (0, 0)]
    assert not lender.lent


def test_memory_of_cupy(gpu, cupy: Module):
    x = cupy.empty(SHAPE, np.float32)
    x.set(np.random.default_rng(3).normal(size=SHAPE).astype(np.float32))
    out = cupy.empty_like(x), *(cupy.empty(SHAPE[1:2], np.float32) for _ in range(2))
    ops.batch_norm_forward(x, None, None, out=out)
    expected = out[0].get()
    pool = cupy.cuda.MemoryPool()
    with fusednn.cuda_settings(workspace="package"), cupy.cuda.using_allocator(pool.malloc):
        for _ in range(2):
            ops.batch_norm_forward(x, None, None, out=out)
    np.testing.assert_array_equal(out[0].get(), expected)
    assert [len(blocks) for blocks in pool.free.values()] == [1]  # lent twice, and given back


def test_settings_end_with_their_block_and_are_the_threads_own(gpu):
    lender = Lender(gpu)
    layer = Layer(gpu)
    with fusednn.cuda_settings(workspace=lender):
        with fusednn.cuda_settings(spare_multiprocessors=3):  # the workspace stays the lender's
            layer.forward()
            assert len(lender.calls) == 2
            with fusednn.cuda_settings(workspace="library"):
                layer.forward()
        other = threading.Thread(target=layer.forward)
        other.start()
        other.join()
        assert len(lender.calls) == 2
        layer.forward()
    assert len(lender.calls) == 4
    layer.forward()
    assert len(lender.calls) == 4
