"""Times of work on a GPU: replays of CUDA graphs between events; on the CPU, for dry runs, a clock.

A graph holds the work once for each of several sets of arrays, more than the L2 cache holds in all,
so that nothing is found there that the caller did not leave there in the same call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Work = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles of the replays; `captured`: of a graph."""

    median: float
    low: float
    high: float
    replays: int
    captured: bool


def summary(seconds: Sequence[float], captured: bool) -> Timing:
    """Median and quartiles of times."""
    low, median, high = (float(q) for q in np.percentile(seconds, [25, 50, 75]))
    return Timing(median, low, high, len(seconds), captured)


class GpuClock:
    """Events around replays of a graph, or around calls where the work cannot be captured."""

    stands_in = False

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.stream = torch.cuda.Stream()
        properties = torch.cuda.get_device_properties(0)
        self.l2_bytes = int(properties.L2_cache_size)
        self.memory = int(properties.total_memory)

    def sets_for(self, bytes_of_a_set: int) -> int:
        """How many sets of arrays make four times the L2 cache, in a third of the memory."""
        wanted = -(-4 * self.l2_bytes // max(bytes_of_a_set, 1))
        fitting = self.memory // 3 // max(bytes_of_a_set, 1)
        return max(1, min(wanted, fitting, 64))

    def _replay_of(self, works: Sequence[Work]) -> tuple[Work, bool]:
        cuda = self.torch.cuda
        with cuda.stream(self.stream):
            for _ in range(2):
                for work in works:
                    work()
        cuda.synchronize()
        graph = cuda.CUDAGraph()
        try:
            with cuda.graph(graph, stream=self.stream):
                for work in works:
                    work()
        except RuntimeError:
            # Work that waits for the device; the failed capture must not be the next call's error.
            cuda.synchronize()
            return (lambda: [work() for work in works]), False
        return graph.replay, True

    def time(self, works: Sequence[Work], budget: float = 0.5) -> Timing:
        """Time one call of each of `works`, which do the same with different arrays."""
        cuda = self.torch.cuda
        replay, captured = self._replay_of(works)
        seconds: list[float] = []
        deadline = time.monotonic() + budget
        with cuda.stream(self.stream):
            for _ in range(2):
                replay()
            while len(seconds) < 5 or (len(seconds) < 100 and time.monotonic() < deadline):
                before, after = (cuda.Event(enable_timing=True) for _ in range(2))
                before.record()
                replay()
                after.record()
                after.synchronize()
                seconds.append(before.elapsed_time(after) / 1e3 / len(works))
        return summary(seconds, captured)


class HostClock:
    """For dry runs: everything once, on the CPU. The times mean nothing."""

    stands_in = True
    l2_bytes = 1 << 16
    memory = 1 << 30

    def sets_for(self, bytes_of_a_set: int) -> int:
        """Two, so that there is a second."""
        return 2

    def time(self, works: Sequence[Work], budget: float = 0.5) -> Timing:
        """Do each of `works` twice."""
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            for work in works:
                work()
            seconds.append((time.perf_counter() - start) / len(works))
        return summary(seconds, captured=False)


Clock = GpuClock | HostClock
