"""The stand-in for CuPy: what is given to the simulated device, its memory, streams and graphs."""

from __future__ import annotations

import ctypes
import weakref
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
from simulator import Simulator

from fusednn import devices

CUBLAS_IN_CAPTURE = "calling cuBLAS API during stream capture is currently unsupported"


class CUDARuntimeError(RuntimeError):
    pass


class Runtime:
    """The simulated device and what was given to it."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.capturing = False
        self.graphs = 0
        self.launches = 0
        #: How much each stream was given, and how much of that somebody has waited for.
        self.given: defaultdict[int, int] = defaultdict(int)
        self.waited_for: defaultdict[int, int] = defaultdict(int)
        #: Memory that the graph under way writes each time that it is launched.
        self.captured: list[weakref.ref[Memory]] = []
        self._work: list[Callable[[], object]] = []
        self._errors: list[BaseException] = []
        signature = ctypes.CFUNCTYPE(None, ctypes.c_int64)
        self._callback = signature(self._run)

    def _run(self, number: int) -> None:
        try:
            with np.errstate(all="ignore"):
                self._work[number]()
        except BaseException as error:  # it would be lost in the simulator
            self._errors.append(error)

    def turn(self) -> AbstractContextManager[Any]:
        """That of the models' device: a capture is the whole device's here, not a stream's."""
        device: Any = devices._known.get("cuda:0")
        return nullcontext() if device is None else device._lock

    def give(self, work: Callable[[], object], written: Any = None) -> None:
        """Give work to the current stream, which writes an array, if not only addresses."""
        with self.turn():
            if written is not None:
                self.note_written(written)
            self._work.append(work)
            self.simulator.functions.gpusim_give(
                ctypes.cast(self._callback, ctypes.c_void_p), len(self._work) - 1
            )
            self.raise_errors()

    def note_written(self, array: Any) -> None:
        """The current stream is given what writes this array."""
        self.write(array.memory, Stream.current[0][-1].ptr)
        if self.capturing:
            self.captured.append(weakref.ref(array.memory))

    def write(self, memory: Memory | None, stream: int) -> None:
        """A stream is given what writes this memory, if it is there still."""
        if memory is not None:
            self.given[stream] += 1
            memory.written = stream, self.given[stream]

    def may_be_read(self, array: Any, stream: int) -> bool:
        """Whether what wrote the array comes before what this stream is given now."""
        writer, number = array.memory.written
        return writer == stream or number <= self.waited_for[writer]

    def wait_for(self, stream: int) -> None:
        """The host waits for this stream; there is one order of work here, so for all of it."""
        self.wait()
        self.waited_for[stream] = self.given[stream]

    def raise_errors(self) -> None:
        if self._errors:
            raise self._errors.pop(0)

    def wait(self) -> None:
        with self.turn():
            if self.capturing:
                raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
            assert self.simulator.functions.gpusim_wait() == 0, self.simulator.report
            self.raise_errors()

    def refuse_cublas(self) -> None:
        if self.capturing:
            raise NotImplementedError(CUBLAS_IN_CAPTURE)


class Memory:
    """A block, given back to its pool when nobody refers to it."""

    def __init__(self, pool: MemoryPool, address: int, size: int) -> None:
        self.pool, self.address, self.size = pool, address, size
        self.written = 0, 0  # by which stream, as the how manieth that it was given

    ptr = property(lambda self: self.address)

    def __del__(self) -> None:
        self.pool.free.setdefault(self.size, []).append(self.address)


class MemoryPool:
    """Blocks that are kept, and lent again in the same size."""

    runtime: Runtime

    def __init__(self) -> None:
        self.free: dict[int, list[int]] = {}

    def malloc(self, size: int) -> Memory:
        size = max(512, -(-size // 512) * 512)
        free = self.free.get(size)
        if free:
            return Memory(self, free.pop(), size)
        address = self.runtime.simulator.functions.gpusim_allocate(size)
        if not address:
            raise CUDARuntimeError("no memory, or none while a graph is captured")
        return Memory(self, address, size)


class Stream:
    """A stream; all share the simulated device's order."""

    #: By device.
    current: ClassVar[defaultdict[int, list[Stream]]]

    def __init__(self, runtime: Runtime, ptr: int, device: int = 0) -> None:
        self._runtime, self.ptr, self.device_id = runtime, ptr, device

    def __enter__(self) -> Stream:
        self.current[self.device_id].append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.current[self.device_id].pop()

    def synchronize(self) -> None:
        self._runtime.wait_for(self.ptr)

    def begin_capture(self) -> None:
        assert self.ptr != 0, "cannot capture on the default (legacy) stream"
        self._runtime.simulator.functions.gpusim_begin_capture()
        self._runtime.captured = []
        self._runtime.capturing = True

    def end_capture(self) -> Graph:
        self._runtime.simulator.functions.gpusim_end_capture()
        self._runtime.capturing = False
        self._runtime.graphs += 1
        return Graph(self._runtime)


class Graph:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._number = runtime.simulator.functions.gpusim_keep_graph()
        self._written, runtime.captured = runtime.captured, []

    def launch(self, stream: Stream) -> None:
        assert not self._runtime.capturing
        self._runtime.launches += 1
        for memory in self._written:
            self._runtime.write(memory(), stream.ptr)
        functions = self._runtime.simulator.functions
        assert functions.gpusim_launch_kept(self._number) == 0, self._runtime.simulator.report
        self._runtime.raise_errors()
