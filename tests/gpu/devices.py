"""GPUs as the tests see them, through PyTorch and CuPy; and stand-ins that need none.

A stand-in runs the same tests where there is no GPU: PyTorch's class over tensors of the CPU,
CuPy's over NumPy, both with streams and graphs that do at once what they are given; and the
simulator of `tests/cuda_sim`, which runs the CUDA kernels themselves.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import pytest

from fusednn import _core

#: Asked for in the environment: the tests run where there is no GPU.
STANDS_IN = bool(os.environ.get("FUSEDNN_GPU_STAND_IN"))

OF_ALL = tuple(np.dtype(t) for t in (np.float32, np.float64, np.float16))
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Device(Protocol):
    """Where arrays are, and how its package orders work on them."""

    dtypes: tuple[np.dtype, ...]
    #: Whether arrays are the CPU's after all.
    host: bool

    def empty(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> Any:
        """An array full of NaNs, `offset` elements after an aligned address."""

    def set(self, array: Any, values: np.ndarray) -> None: ...

    def get(self, array: Any) -> np.ndarray: ...

    def pointer(self, array: Any) -> int: ...

    def busy(self) -> AbstractContextManager[None]:
        """Another stream has work while what is inside is given to this one."""

    def graph(self, work: Callable[[], Any]) -> Callable[[], None]:
        """`work`, done once and then captured into a graph: what replays it."""


def array(device: Device, values: np.ndarray, offset: int = 0) -> Any:
    """A copy of `values` on the device, `offset` elements after an aligned address."""
    copy = device.empty(values.shape, values.dtype, offset)
    device.set(copy, values)
    return copy


def require_dtype(device: Device, dtype: Any) -> None:
    if np.dtype(dtype) not in device.dtypes:
        pytest.skip(f"the package's arrays have no {dtype}")


class Torch:
    """Tensors of PyTorch."""

    dtypes = (*OF_ALL, BFLOAT16)
    host = False

    def __init__(self, where: str = "cuda", cuda: Any = None, side: int = 2048) -> None:
        import torch

        self.torch, self.where, self.side = torch, where, side
        self.cuda = torch.cuda if cuda is None else cuda

    def empty(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> Any:
        size = int(np.prod(shape, dtype=np.int64))
        kind = getattr(self.torch, np.dtype(dtype).name)
        memory = self.torch.empty(size + offset, dtype=kind, device=self.where)
        memory.view(self.torch.uint8).fill_(0xFF)
        return memory[offset:].view(shape)

    def set(self, array: Any, values: np.ndarray) -> None:
        if values.size > 0:
            bits = np.array(values).reshape(-1).view(np.uint8)
            tensor = self.torch.from_numpy(bits).to(self.where)
            array.copy_(tensor.view(array.dtype).view(array.shape))

    def get(self, array: Any) -> np.ndarray:
        dtype = np.dtype(str(array.dtype).removeprefix("torch."))
        if array.numel() == 0:
            return np.empty(tuple(array.shape), dtype)
        bits = array.detach().contiguous().view(-1).view(self.torch.uint8).cpu().numpy()
        return bits.view(dtype).reshape(tuple(array.shape)).copy()

    def pointer(self, array: Any) -> int:
        return int(array.data_ptr())

    @contextmanager
    def busy(self) -> Iterator[None]:
        matrix = self.torch.rand((self.side, self.side), device=self.where)
        product = self.torch.empty_like(matrix)
        self.cuda.synchronize()
        with self.cuda.stream(self.cuda.Stream()):
            for _ in range(40):
                self.torch.matmul(matrix, matrix, out=product)
        yield
        self.cuda.synchronize()

    def graph(self, work: Callable[[], Any]) -> Callable[[], None]:
        stream = self.cuda.Stream()
        self.cuda.synchronize()
        # The library keeps its memory by stream: it is there once the call has been made on it.
        with self.cuda.stream(stream):
            work()
        self.cuda.synchronize()
        graph = self.cuda.CUDAGraph()
        with self.cuda.graph(graph, stream=stream):
            work()

        def replay() -> None:
            graph.replay()
            self.cuda.synchronize()

        return replay


class CuPy:
    """Arrays of CuPy."""

    dtypes = OF_ALL
    host = False

    def __init__(self, cupy: Any = None, side: int = 2048) -> None:
        if cupy is None:
            import cupy
        self.cupy, self.side = cupy, side

    def empty(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> Any:
        size = int(np.prod(shape, dtype=np.int64))
        memory = self.cupy.empty(size + offset, dtype)
        memory.view(np.uint8).fill(0xFF)
        return memory[offset:].reshape(shape)

    def set(self, array: Any, values: np.ndarray) -> None:
        array[...] = self.cupy.asarray(values)

    def get(self, array: Any) -> np.ndarray:
        return np.array(self.cupy.asnumpy(array))

    def pointer(self, array: Any) -> int:
        return int(array.__cuda_array_interface__["data"][0])

    @contextmanager
    def busy(self) -> Iterator[None]:
        device = self.cupy.cuda.Device()
        matrix = self.cupy.ones((self.side, self.side), np.float32)
        product = self.cupy.empty_like(matrix)
        device.synchronize()
        with self.cupy.cuda.Stream(non_blocking=True):
            for _ in range(40):
                self.cupy.matmul(matrix, matrix, out=product)
        yield
        device.synchronize()

    def graph(self, work: Callable[[], Any]) -> Callable[[], None]:
        device = self.cupy.cuda.Device()
        device.synchronize()
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            work()
            stream.begin_capture()
            work()
            graph = stream.end_capture()
        device.synchronize()

        def replay() -> None:
            device.synchronize()  # what was written is another stream's
            graph.launch(stream)
            device.synchronize()

        return replay


class TorchStandIn(Torch):
    """PyTorch's CPU tensors; what is given to a stream or a graph is done at once."""

    host = True

    def __init__(self) -> None:
        cuda = SimpleNamespace(
            Stream=lambda: None,
            stream=lambda _: nullcontext(),
            synchronize=lambda: None,
            CUDAGraph=lambda: SimpleNamespace(replay=lambda: None),
            graph=lambda *_, **__: nullcontext(),
        )
        super().__init__("cpu", cuda, side=8)

    def graph(self, work: Callable[[], Any]) -> Callable[[], None]:
        super().graph(work)()

        def replay() -> None:
            work()

        return replay


class _HostStream(nullcontext):  # type: ignore[type-arg]
    def begin_capture(self) -> None: ...

    def end_capture(self) -> Any:
        return SimpleNamespace(launch=lambda _: None)


class CuPyStandIn(CuPy):
    """NumPy by CuPy's names; what is given to a stream or a graph is done at once."""

    host = True

    def __init__(self) -> None:
        cuda = SimpleNamespace(
            Device=lambda: SimpleNamespace(synchronize=lambda: None),
            Stream=lambda non_blocking: _HostStream(),
        )
        names = ("empty", "empty_like", "ones", "asarray", "matmul")
        functions = {name: getattr(np, name) for name in names}
        super().__init__(SimpleNamespace(cuda=cuda, asnumpy=np.asarray, **functions), side=8)

    def pointer(self, array: Any) -> int:
        return int(array.__array_interface__["data"][0])

    def graph(self, work: Callable[[], Any]) -> Callable[[], None]:
        super().graph(work)()

        def replay() -> None:
            work()

        return replay


class Simulated:
    """The simulator's arrays: the CUDA kernels run on the CPU."""

    dtypes = Torch.dtypes
    host = False

    def __init__(self, simulator: Any) -> None:
        self.simulator = simulator

    def empty(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> Any:
        return self.simulator.empty(shape, dtype, offset * np.dtype(dtype).itemsize)

    def set(self, array: Any, values: np.ndarray) -> None:
        array.set(values)

    def get(self, array: Any) -> np.ndarray:
        return array.get()

    def pointer(self, array: Any) -> int:
        return array.pointer

    @contextmanager
    def busy(self) -> Iterator[None]:
        """There is one order of work here: threads take turns at random instead."""
        self.simulator.schedule("random", 7)
        yield

    def graph(self, work: Callable[[], Any]) -> Callable[[], None]:
        work()
        with self.simulator.capture():
            work()
        return self.simulator.replay


#: Whose arrays the tests have on a GPU; importing one takes seconds under compute-sanitizer.
PACKAGES = os.environ.get("FUSEDNN_GPU_PACKAGES", "torch cupy").split()
#: Of these those that are not to be used, and why.
ABSENT: dict[str, str] = {}


def finds_a_gpu(name: str) -> bool:
    """Whether a package is there and can use a GPU; `ABSENT` says why not."""
    try:
        with warnings.catch_warnings():  # of the package itself, which tests would take for errors
            warnings.simplefilter("ignore")
            found = bool(import_module(name).cuda.is_available())
        reason = "sees no GPU"
    except Exception as error:
        found, reason = False, f"{type(error).__name__}: {error}"
    if not found:
        ABSENT[name] = reason
    return found


@cache
def available() -> tuple[str, ...]:
    """The devices that tests can run on here: nothing where there is neither GPU nor stand-in."""
    if STANDS_IN:
        return ("simulated", "cupy", *(["torch"] if find_spec("torch") else []))
    try:
        _core.cuda_device_count()
    except RuntimeError:
        return ()
    return tuple(filter(finds_a_gpu, PACKAGES))
