"""How the benchmarks time work on a GPU, with a stand-in for PyTorch whose time is counted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/gpu"))

from clock import GpuClock

L2, MEMORY = 50 << 20, 141 << 30
LAUNCH = 1.0  # milliseconds that each call takes outside of a graph, on top of its own


class Cuda:
    """`torch.cuda`: works are given to it, and take the milliseconds that they say."""

    def __init__(self, *, can_capture: bool = True) -> None:
        self.now = 0.0
        self.can_capture = can_capture
        self.recorded: list[float] | None = None  # while a graph is captured
        self.on_stream = 0
        self.waited = 0
        self.CUDAGraph = lambda: SimpleNamespace(works=[], replay=None)
        self.Stream = object

    def get_device_properties(self, device: int) -> Any:
        return SimpleNamespace(L2_cache_size=L2, total_memory=MEMORY)

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.on_stream += 1
        yield
        self.on_stream -= 1

    def synchronize(self) -> None:
        self.waited += 1

    @contextmanager
    def graph(self, graph: Any, stream: Any) -> Iterator[None]:
        if not self.can_capture:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded = works = []
        yield
        self.recorded = None

        def replay() -> None:
            self.now += sum(works)

        graph.replay = replay

    def work(self, milliseconds: float) -> Callable[[], None]:
        def given() -> None:
            if self.recorded is not None:
                self.recorded.append(milliseconds)
            else:
                self.now += milliseconds + LAUNCH

        return given

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - PyTorch's name
        assert enable_timing
        event = SimpleNamespace(at=None, synchronize=lambda: None)

        def record() -> None:
            assert self.on_stream  # events of another stream tell nothing of the work
            event.at = self.now

        event.record = record
        event.elapsed_time = lambda after: after.at - event.at
        return event


def clock_on(cuda: Cuda) -> GpuClock:
    return GpuClock(SimpleNamespace(cuda=cuda))


def test_replays_of_a_graph_are_timed_and_divided_by_its_sets():
    cuda = Cuda()
    timing = clock_on(cuda).time([cuda.work(2.0), cuda.work(4.0)], budget=0.0)
    assert timing.captured
    assert timing.replays == 5
    for seconds in (timing.low, timing.median, timing.high):
        assert seconds == pytest.approx(3e-3)  # a call's own, without launches


def test_work_that_cannot_be_captured_is_timed_call_by_call():
    cuda = Cuda(can_capture=False)
    timing = clock_on(cuda).time([cuda.work(2.0)], budget=0.0)
    assert not timing.captured
    assert timing.median == pytest.approx((2.0 + LAUNCH) * 1e-3)
    assert cuda.waited == 2  # for the work before, and for the capture that failed


def test_sets_of_arrays_are_several_times_l2_and_fit_in_memory():
    clock = clock_on(Cuda())
    assert clock.sets_for(L2) == 4
    assert clock.sets_for(L2 // 3) == 12
    assert clock.sets_for(1) == 64
    assert clock.sets_for(30 << 30) == 1
    assert clock.sets_for(0) == 64
