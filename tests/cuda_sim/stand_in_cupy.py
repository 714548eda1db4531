"""A stand-in for CuPy on the simulated device: what `fusednn.device` uses, as strict as CuPy is.

Arrays lie in the simulator's memory. What CuPy would launch as kernels is computed by NumPy, given
to the simulated stream in order with the package's own kernels: at once, or late (`deferred`), or
recorded into a graph. As in CuPy, arrays do not mix with NumPy's, ufuncs have no `where`, and while
a graph is captured the host neither reads an array nor calls cuBLAS. No array is read on another
stream than the one that wrote it, unless somebody has waited for that: on a GPU it may come later.
"""

from __future__ import annotations

import ctypes
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulator import Simulator, dlpack_capsule
from stand_in_cublas import Cublas
from stand_in_cupy_runtime import Memory, MemoryPool, Runtime, Stream


class Pointer:
    def __init__(self, address: int) -> None:
        self.ptr = address


Scalar = (int, float, bool, np.generic)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array: `host` is NumPy's view of the simulated device's memory."""

    cupy: Any

    def __init__(self, host: np.ndarray, memory: Memory) -> None:
        self.host, self.memory = host, memory
        self._exports: list[object] = []

    @property
    def data(self) -> Pointer:
        return Pointer(self.host.ctypes.data)

    device = SimpleNamespace(id=0)
    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    flags = property(lambda self: self.host.flags)
    T = property(lambda self: ndarray(self.host.T, self.memory))

    def __len__(self) -> int:
        return len(self.host)

    def reshape(self, *shape: Any) -> ndarray:
        view = self.host.reshape(*shape)
        assert np.may_share_memory(view, self.host) or not view.size, "a copy"
        return ndarray(view, self.memory)

    def transpose(self, axes: list[int]) -> ndarray:
        return ndarray(self.host.transpose(axes), self.memory)

    def __getitem__(self, index: Any) -> ndarray:
        view = self.host[index]
        assert isinstance(view, np.ndarray), "an element of the device"
        return ndarray(view, self.memory)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.cupy.copyto(self[index], value)

    # ---- to and from the host

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None) -> Any:
        values = np.empty(self.shape, self.dtype) if out is None else out
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError("Shape or dtype mismatch")
        on = Stream.current[self.device.id][-1] if stream is None else stream
        self._runtime.wait_for(on.ptr)
        # CUDA's streams have no order but the one that somebody asks for.
        assert self._runtime.may_be_read(self, on.ptr), "written by a stream that may be at it"
        values[...] = self.host
        return values

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"mismatch: {arr.dtype} {arr.shape} to {self.dtype} {self.shape}")
        assert not self._runtime.capturing
        host = self.host
        # What is not pinned is copied before the call returns.
        source = arr if isinstance(arr, PinnedArray) else arr.copy()
        self._runtime.give(lambda: np.copyto(host, source), self)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def item(self) -> Any:
        return self.get().item()

    def __float__(self) -> float:
        return float(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    @property
    def _runtime(self) -> Runtime:
        return self.cupy.runtime

    # ---- computing

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        (out,) = kwargs.pop("out", (None,))
        if method != "__call__":
            return NotImplemented
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        for operand in (*inputs, out):
            if isinstance(operand, np.ndarray):
                raise TypeError(f"Unsupported type {type(operand)}")
            if operand is not None and not isinstance(operand, (ndarray, *Scalar)):
                return NotImplemented
        hosts = [operand.host if isinstance(operand, ndarray) else operand for operand in inputs]
        if ufunc.signature is not None:
            self._runtime.refuse_cublas()
            shape = ufunc(*[np.zeros(h.shape) for h in hosts]).shape
        else:
            shape = np.broadcast_shapes(*map(np.shape, hosts))
        if out is None:
            samples = [
                np.ones((1,) * max(1, h.ndim), h.dtype) if isinstance(h, np.ndarray) else h
                for h in hosts
            ]
            with np.errstate(all="ignore"):
                dtype = np.asarray(ufunc(*samples)).dtype
            out = self.cupy.empty(shape, dtype)
        assert out.shape == shape, "cannot be broadcast to the output"
        target = out.host
        self._runtime.give(lambda: ufunc(*hosts, out=target), out)
        return out

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        own = getattr(self.cupy, function.__name__, None)
        if own is None or any(issubclass(t, np.ndarray) for t in types):
            return NotImplemented
        return own(*args, **kwargs)

    def fill(self, value: float) -> None:
        host = self.host
        self._runtime.give(lambda: host.fill(value), self)

    def sum(self, axis: Any = None, out: ndarray | None = None, keepdims: bool = False) -> ndarray:
        return self._reduced(np.sum, axis, out, keepdims)

    def max(self, axis: Any = None, out: ndarray | None = None, keepdims: bool = False) -> ndarray:
        return self._reduced(np.max, axis, out, keepdims)

    def _reduced(self, function: Any, axis: Any, out: ndarray | None, keepdims: bool) -> ndarray:
        host = self.host
        if out is None:
            shape = np.empty(host.shape, np.bool_).any(axis=axis, keepdims=keepdims).shape
            dtype = function(np.zeros(1, host.dtype)).dtype  # booleans are counted
            out = self.cupy.empty(shape, dtype)
        target = out.host
        self._runtime.give(lambda: function(host, axis=axis, keepdims=keepdims, out=target), out)
        return out

    # ---- to the package's kernels

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.id

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, **_: Any) -> Any:
        assert self.host.flags.c_contiguous
        self._runtime.note_written(self)
        exports = self._exports
        return dlpack_capsule(self.data.ptr, self.shape, self.dtype, exports, self.device.id)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.data.ptr, False),
            "version": 3,
            "strides": None if self.host.flags.c_contiguous else self.host.strides,
        }


ndarray.__module__ = "cupy"


class PinnedArray(np.ndarray):
    """An array of NumPy whose copies to the device may be read late."""


class Module:
    """What makes up the module `cupy`."""

    float32 = np.float32
    float64 = np.float64

    def __init__(self, simulator: Simulator) -> None:
        self.runtime = runtime = Runtime(simulator)
        # Kept memory is a stream's: one of its own meets no other test's.
        stream = simulator.new_stream()
        self.blas = Cublas(runtime.give, stream)
        pool_type = type("MemoryPool", (MemoryPool,), {"runtime": runtime})
        self._pools = [pool_type()]
        self._seed(0)
        self.random = SimpleNamespace(seed=self._seed, standard_normal=self._standard_normal)
        Stream.current = defaultdict(lambda: [Stream(runtime, 0)])
        self.cuda = SimpleNamespace(
            Device=_Device,
            MemoryPool=pool_type,
            Stream=lambda non_blocking: Stream(runtime, stream),
            # Of the current device, 0, where none is named.
            get_current_stream=lambda device_id=-1: Stream.current[max(device_id, 0)][-1],
            alloc=lambda size: self._pools[-1].malloc(size),
            using_allocator=self._using_allocator,
            runtime=SimpleNamespace(getDeviceCount=lambda: 1, runtimeGetVersion=lambda: 13000),
        )

    @contextmanager
    def _using_allocator(self, allocator: Any) -> Iterator[None]:
        self._pools.append(allocator.__self__)
        try:
            yield
        finally:
            self._pools.pop()

    def empty(self, shape: Any, dtype: Any = float) -> ndarray:
        shape, dtype = np.empty(shape, np.bool_).shape, np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        memory = self._pools[-1].malloc(count * dtype.itemsize)
        raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(memory.address)
        return ndarray(np.frombuffer(raw, dtype, count).reshape(shape), memory)

    def empty_like(self, a: ndarray) -> ndarray:
        return self.empty(a.shape, a.dtype)

    def full(self, shape: Any, fill_value: float, dtype: Any = None) -> ndarray:
        array = self.empty(shape, np.asarray(fill_value).dtype if dtype is None else dtype)
        array.fill(fill_value)
        return array

    def ones(self, shape: Any, dtype: Any = float) -> ndarray:
        return self.full(shape, 1, dtype)

    def ones_like(self, a: ndarray) -> ndarray:
        return self.ones(a.shape, a.dtype)

    def asnumpy(self, a: ndarray) -> np.ndarray:
        return a.get()

    def _standard_normal(self, size: Any, dtype: Any = float) -> ndarray:
        array = self.empty(size, dtype)
        array.set(self._rng.standard_normal(size, dtype))
        return array

    def _seed(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def zeros(self, shape: Any, dtype: Any = float) -> ndarray:
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def zeros_like(self, a: ndarray, dtype: Any = None) -> ndarray:
        return self.zeros(a.shape, a.dtype if dtype is None else dtype)

    def copyto(self, dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
        operands = [dst, src, where]
        if any(isinstance(operand, np.ndarray) for operand in operands):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        hosts = [o.host if isinstance(o, ndarray) else o for o in operands]
        condition = True if where is None else hosts[2]
        self.runtime.give(
            lambda: np.copyto(hosts[0], hosts[1], casting=casting, where=condition), dst
        )

    def asarray(self, a: np.ndarray) -> ndarray:
        array = self.empty(a.shape, a.dtype)
        array.set(a)
        return array

    def stack(self, tup: list[ndarray]) -> ndarray:
        hosts = [part.host for part in tup]
        out = self.empty(np.stack(hosts).shape, hosts[0].dtype)
        self.runtime.give(lambda: np.stack(hosts, out=out.host), out)
        return out

    def take(self, a: ndarray, indices: ndarray, axis: int, out: ndarray) -> None:
        host, to, rows = a.host, out.host, indices.host
        self.runtime.give(lambda: np.copyto(to, np.take(host, rows, axis)), out)

    def clip(self, a: ndarray, a_min: Any, a_max: Any, out: ndarray | None = None) -> ndarray:
        target = self.empty(a.shape, a.dtype) if out is None else out
        host, to = a.host, target.host
        self.runtime.give(lambda: np.clip(host, a_min, a_max, out=to), target)
        return target

    def may_share_memory(self, a: Any, b: Any) -> bool:
        return np.may_share_memory(a.host, b.host)

    def dot(self, a: ndarray, b: ndarray) -> ndarray:
        return self._product(np.dot, a, b)

    def einsum(self, subscripts: str, *operands: ndarray) -> ndarray:
        return self._product(lambda *hosts: np.einsum(subscripts, *hosts), *operands)

    def _product(self, function: Callable[..., Any], *operands: ndarray) -> ndarray:
        self.runtime.refuse_cublas()
        hosts = [operand.host for operand in operands]
        out = self.empty(np.shape(function(*hosts)), hosts[0].dtype)
        to = out.host
        self.runtime.give(lambda: np.copyto(to, function(*hosts)), out)
        return out

    def fill_diagonal(self, a: ndarray, val: float) -> None:
        host = a.host
        self.runtime.give(lambda: np.fill_diagonal(host, val), a)


class _Device:
    def __init__(self, index: int) -> None:
        assert index == 0
        self.id = index
        self.cublas_handle = 1

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def empty_pinned(shape: Any, dtype: Any) -> np.ndarray:
    return np.empty(shape, dtype).view(PinnedArray)


def install(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Make `import cupy` find the stand-in, and cuBLAS be the stand-in's, until the test ends."""
    parts = Module(simulator)
    cupy = ModuleType("cupy")
    cupy.__dict__.update({name: getattr(parts, name) for name in dir(parts) if name[0] != "_"})
    cupy.ndarray = ndarray
    monkeypatch.setattr(ndarray, "cupy", parts, raising=False)
    cupyx = ModuleType("cupyx")
    cupyx.empty_pinned = empty_pinned
    modules = {"cupy": cupy, "cupy.cuda": _as_module("cupy.cuda", parts.cuda), "cupyx": cupyx}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("fusednn.devices.cuda.load_library", lambda major: parts.blas)
    return parts


def _as_module(name: str, parts: SimpleNamespace) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(vars(parts))
    return module
