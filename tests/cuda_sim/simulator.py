"""The simulated device as tests see it: its memory, its schedules, its faults."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from freshness import staleness

ROOT = Path(__file__).parents[2]
#: Where the libraries lie: `nox -s cuda_sim` says so, the CMake preset `cuda_sim` builds there.
FOLDER = Path(os.environ.get("FUSEDNN_CUDA_SIM") or ROOT / "build/cuda_sim/tests/cuda_sim")

ORDERS = ("fifo", "reverse", "random", "starve")
#: Of `starve`, seeds divisible by 3 keep their priorities, seeds of remainder 1 change them often.
SCHEDULES = [("fifo", 1), ("reverse", 1), ("random", 1), *(("starve", seed) for seed in range(6))]


def library(name: str) -> Path:
    """The path of lib`name`.so; skips the test where nobody has said that it is built."""
    path = FOLDER / f"lib{name}.so"
    if not path.exists():
        assert "FUSEDNN_CUDA_SIM" not in os.environ, f"{path} is not there"
        pytest.skip(f"{path} is not there: `nox -s cuda_sim` builds it")
    if stale := staleness(path):
        # What the tests would say of it is said of other kernels.
        pytest.fail(stale, pytrace=False)
    return path


class Counts(NamedTuple):
    """What happened since the last reset, and what lives now."""

    launches: int
    switches: int
    allocations: int
    synchronisations: int
    copies: int
    live_allocations: int
    stacks: int


#: `Access` of traffic.h.
ACCESS = np.dtype(
    [("address", "u8"), ("launch", "u4"), ("block", "u4"), ("bytes", "u4"), ("writes", "u4")]
)


class Traffic:
    """What kernels read and wrote of the caller's arrays, access by access, in order."""

    def __init__(self) -> None:
        self.accesses = np.empty(0, ACCESS)

    def of(self, array: DeviceArray) -> np.ndarray:
        """The accesses to an array; none may reach over its ends."""
        begin, end = array.pointer, array.pointer + array.nbytes
        first = self.accesses["address"]
        last = first + self.accesses["bytes"]
        touched = (first < end) & (last > begin)
        assert ((first[touched] >= begin) & (last[touched] <= end)).all()
        return self.accesses[touched]

    def read(self, array: DeviceArray) -> int:
        """Bytes read of an array: what is read twice counts twice."""
        accesses = self.of(array)
        return int(accesses["bytes"][accesses["writes"] == 0].sum())

    def written(self, array: DeviceArray) -> int:
        """Bytes written to an array."""
        accesses = self.of(array)
        return int(accesses["bytes"][accesses["writes"] == 1].sum())

    @property
    def bytes(self) -> int:
        """Bytes read and written, of all arrays."""
        return int(self.accesses["bytes"].sum())


class Simulator:
    """A library with the simulator in it."""

    #: How far the sanitizer's log, which is the process', was read, whichever library it tells of.
    _race_log_read: ClassVar[int] = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.functions = functions = ctypes.CDLL(str(path))
        functions.gpusim_allocate.restype = ctypes.c_void_p
        functions.gpusim_allocate.argtypes = [ctypes.c_size_t]
        functions.gpusim_free.argtypes = [ctypes.c_void_p]
        functions.gpusim_write.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        functions.gpusim_read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        functions.gpusim_schedule.argtypes = [ctypes.c_int, ctypes.c_uint64]
        functions.gpusim_set.argtypes = [ctypes.c_char_p, ctypes.c_int64]
        functions.gpusim_set.restype = ctypes.c_bool
        functions.gpusim_new_stream.restype = ctypes.c_void_p
        functions.gpusim_launch_devices.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        functions.gpusim_launch_devices.restype = ctypes.c_int64
        functions.gpusim_waits.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        functions.gpusim_waits.restype = ctypes.c_int64
        functions.gpusim_keep_graph.restype = ctypes.c_int64
        functions.gpusim_launch_kept.argtypes = [ctypes.c_int64]
        functions.gpusim_destroy_kept.argtypes = [ctypes.c_int64]
        functions.gpusim_give.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        functions.gpusim_trace.argtypes = [ctypes.c_bool]
        functions.gpusim_traffic.restype = ctypes.c_int64
        functions.gpusim_traffic.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        functions.gpusim_report.restype = ctypes.c_char_p
        functions.gpusim_sanitizer.restype = ctypes.c_char_p
        self._race_log: Path | None = None
        if self.sanitizer == "thread":
            found = re.search(r"log_path=([^:]+)", os.environ.get("TSAN_OPTIONS", ""))
            assert found, "TSAN_OPTIONS must have log_path: races are read from there"
            self._race_log = Path(f"{found[1]}.{os.getpid()}")

    @property
    def sanitizer(self) -> str:
        """ "address" or "thread" where the library was built with it, else ""."""
        return self.functions.gpusim_sanitizer().decode()

    @property
    def report(self) -> str:
        """What went wrong in the last kernel that failed."""
        return self.functions.gpusim_report().decode()

    @property
    def counts(self) -> Counts:
        numbers = (ctypes.c_int64 * 7)()
        self.functions.gpusim_counts(numbers)
        return Counts(*numbers)

    @property
    def waits(self) -> list[tuple[int, int]]:
        """Which stream was to wait for which since the last reset, in order; 0 is the default."""
        handles = (ctypes.c_uint64 * 32)()
        count = self.functions.gpusim_waits(handles, len(handles) // 2)
        assert count <= len(handles) // 2
        return [(handles[2 * i], handles[2 * i + 1]) for i in range(count)]

    @property
    def current_device(self) -> int:
        """The device that is current in this thread."""
        return self.functions.gpusim_current_device()

    @property
    def launch_devices(self) -> list[int]:
        """The device of each kernel that was launched since the last reset, in order."""
        devices = (ctypes.c_int * self.functions.gpusim_launch_devices(None, 0))()
        self.functions.gpusim_launch_devices(devices, len(devices))
        return list(devices)

    def races(self) -> str:
        """What the thread sanitizer wrote since the last call: nothing without races."""
        if self._race_log is None or not self._race_log.exists():
            return ""
        text = self._race_log.read_text(errors="replace")
        new, Simulator._race_log_read = text[Simulator._race_log_read :], len(text)
        return new

    def reset(self) -> None:
        """A device like any other, no faults, nothing counted. Memory stays as it is."""
        self.functions.gpusim_reset()

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Record the work given inside, as into a CUDA graph, instead of doing it."""
        self.functions.gpusim_begin_capture()
        try:
            yield
        finally:
            self.functions.gpusim_end_capture()

    def replay(self) -> None:
        """Do what was captured."""
        assert self.functions.gpusim_replay() == 0, self.report

    def keep_graph(self) -> int:
        """Put what was captured aside; return the graph's number."""
        return self.functions.gpusim_keep_graph()

    def launch(self, graph: int) -> None:
        """Do what was captured into a graph that was put aside."""
        assert self.functions.gpusim_launch_kept(graph) == 0, self.report

    def destroy(self, graph: int) -> None:
        """Destroy a graph that was put aside, with what it owns."""
        self.functions.gpusim_destroy_kept(graph)

    def new_stream(self) -> int:
        """A stream for which no memory is kept."""
        return self.functions.gpusim_new_stream()

    @contextmanager
    def traced(self) -> Iterator[Traffic]:
        """Note what kernels read and write of arrays; it is known after the block's end."""
        traffic = Traffic()
        self.functions.gpusim_trace(True)
        try:
            yield traffic
        finally:
            self.functions.gpusim_trace(False)
        traffic.accesses = np.empty(self.functions.gpusim_traffic(None, 0), ACCESS)
        self.functions.gpusim_traffic(traffic.accesses.ctypes.data, traffic.accesses.size)

    def schedule(self, order: str, seed: int = 1) -> None:
        """Which thread goes on, in the launches to come."""
        self.functions.gpusim_schedule(ORDERS.index(order), seed)

    def set(self, **properties: int) -> None:
        """Properties of the device and faults: `control.cpp` lists them."""
        for name, value in properties.items():
            assert self.functions.gpusim_set(name.encode(), value), name

    def array(self, values: Any, dtype: Any = None, offset: int = 0) -> DeviceArray:
        """A copy of `values` on the device, `offset` bytes after an aligned address."""
        values = np.ascontiguousarray(values, dtype)
        array = self.empty(values.shape, values.dtype, offset)
        array.set(values)
        return array

    def empty(
        self, shape: int | tuple[int, ...], dtype: Any = "float32", offset: int = 0
    ) -> DeviceArray:
        """An array full of NaNs (all bits set)."""
        return DeviceArray(
            self, (shape,) if isinstance(shape, int) else shape, np.dtype(dtype), offset
        )


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _DLManagedTensorVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),  # null: the array owns everything and must outlive its use
        ("flags", ctypes.c_uint64),
        ("tensor", _DLTensor),
    ]


class _DLManagedTensor(ctypes.Structure):
    """Of before version 1.0."""

    _fields_ = [
        ("tensor", _DLTensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


_CODES = {"i": 0, "u": 1, "f": 2}
_BFLOAT = 4
_CUDA = 2


class DeviceArray:
    """An array in the simulated device's memory, exported through DLPack."""

    #: The stream that the array's package works on now.
    stream: int | None = None

    def __init__(
        self, simulator: Simulator, shape: tuple[int, ...], dtype: np.dtype, offset: int = 0
    ) -> None:
        self.simulator, self.shape, self.dtype = simulator, shape, dtype
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._base = simulator.functions.gpusim_allocate(self.nbytes + offset) or 0
        self.pointer = self._base + offset if self._base else 0
        self.device = 0  # the number that others are told
        self._exports: list[object] = []

    def __del__(self) -> None:
        # A failing guard zone is reported by the launch that broke it.
        if self._base:
            self.simulator.functions.gpusim_free(self._base)

    @property
    def address(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.pointer)

    def set(self, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values, self.dtype)
        assert values.shape == self.shape, (values.shape, self.shape)
        status = self.simulator.functions.gpusim_write(
            self.address, ctypes.c_void_p(values.ctypes.data), self.nbytes
        )
        assert status == 0, self.simulator.report

    def get(self) -> np.ndarray:
        values = np.empty(self.shape, self.dtype)
        status = self.simulator.functions.gpusim_read(
            ctypes.c_void_p(values.ctypes.data), self.address, self.nbytes
        )
        assert status == 0, self.simulator.report
        return values

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # The package asks for the stream alone.
        return {"stream": self.stream}

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self.device

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, **_: Any) -> Any:
        return dlpack_capsule(self.pointer, self.shape, self.dtype, self._exports, self.device)


class Described:
    """Has the CUDA array interface alone, with `entries` in place of what is true."""

    def __init__(self, of: DeviceArray, **entries: Any) -> None:
        self.of = of  # whose memory it is
        self.__cuda_array_interface__ = {
            "shape": of.shape,
            "typestr": of.dtype.str,
            "data": (of.pointer, False),
            "version": 3,
        } | entries

    # It is looked for on the type.
    __cuda_array_interface__: Any = None


def dlpack_capsule(
    pointer: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    exports: list[object],
    device: int = 0,
    *,
    device_type: int = _CUDA,
    versioned: bool = True,
) -> Any:
    """DLPack's capsule of an array in C order; `exports` keep what it points to."""
    is_bfloat = dtype.name == "bfloat16"
    code = _BFLOAT if is_bfloat else _CODES[dtype.kind]
    sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    tensor = _DLTensor(
        pointer, device_type, device, len(shape), code, dtype.itemsize * 8, 1, sizes, None, 0
    )
    if versioned:
        name, managed = (
            b"dltensor_versioned",
            _DLManagedTensorVersioned(1, 1, None, None, 0, tensor),
        )
    else:
        name, managed = b"dltensor", _DLManagedTensor(tensor, None, None)
    # The capsule points to it, and one call may ask for two.
    exports.append((managed, sizes))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(ctypes.addressof(managed), name, None)
