"""Work for a GPU that is given call by call once, then replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fusednn.devices.cuda import Cuda


class CapturedWork:
    """The same work again and again: eagerly, then recorded, then replayed.

    The first call does the work step by step: whatever allocates, compiles or chooses does so
    then. The second records it into a CUDA graph, which it launches; later calls launch the graph,
    one call of the driver in place of hundreds. Where something cannot be recorded, the work is
    done step by step for good.

    Arrays that the work makes come from a memory pool of its own: a graph uses the same memory at
    every launch, so nobody else may have it.

    Parameters
    ----------
    device : Cuda
    work : callable
        Only gives work to the device's stream, on the same arrays every time, with numbers of the
        host that are always the same; and keeps nothing of the host's that changes.
    pool : object
        Memory pool of CuPy, of works that are never done at the same time.
    """

    def __init__(self, device: Cuda, work: Callable[[], object], pool: Any) -> None:
        self._device = device
        self._work = work
        self._pool = pool
        self._graph: Any = None
        self._done_once = False
        self._can_be_captured = True

    @property
    def is_captured(self) -> bool:
        """Whether the next call replays a graph."""
        return self._graph is not None

    def __call__(self) -> None:
        """Give the work to the device."""
        with self._device.working():
            if self._graph is None and self._done_once and self._can_be_captured:
                self._capture()
            if self._graph is not None:
                self._graph.launch(stream=self._device.stream)
                return
            with self._device.cupy.cuda.using_allocator(self._pool.malloc):
                self._work()
            self._done_once = True

    def _capture(self) -> None:
        stream = self._device.stream
        with self._device.cupy.cuda.using_allocator(self._pool.malloc):
            stream.begin_capture()
            try:
                self._work()
                self._graph = stream.end_capture()
            except Exception:
                # Not everything can be recorded; what cannot is an error of CUDA's or CuPy's. A
                # mistake in the work itself comes again when it is done step by step.
                self._can_be_captured = False
                # A capture that went wrong ends with an error of its own.
                with suppress(Exception):
                    stream.end_capture()
