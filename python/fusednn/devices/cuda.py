"""An NVIDIA GPU: CuPy's arrays, cuBLAS' matrix products, one stream for all models on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fusednn import _core
from fusednn.devices.base import Array, Device
from fusednn.devices.cublas import WORKSPACE, Cublas, load_library


class Cuda(Device):
    """A GPU.

    All work is given to one stream of its own, in which everything is done in the order given: a
    model that reads what another one wrote needs no more. Threads take turns.

    Parameters
    ----------
    index : int
        As CUDA counts its devices.

    Raises
    ------
    RuntimeError
        CuPy, the package's CUDA library, the driver, or any GPU is missing.
    ValueError
        There are GPUs, but none of this number.
    """

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.cupy = _import_cupy()
        count = _device_count(self.cupy)
        if index >= count:
            has = "one GPU, 'cuda:0'" if count == 1 else f"{count} GPUs, up to 'cuda:{count - 1}'"
            raise ValueError(
                f"`name` must be that of a GPU: there is {has}. Received: name={self.name!r}"
            )
        self._device = self.cupy.cuda.Device(index)
        self._lock = threading.RLock()
        with self._device:
            #: Not the default one, which cannot be captured.
            self.stream = self.cupy.cuda.Stream(non_blocking=True)
            self._workspace = self.cupy.empty(WORKSPACE, np.uint8)
            # CuPy loads cuBLAS when it first needs it.
            _ = self._device.cublas_handle
            self._blas = Cublas(
                load_library(self.cupy.cuda.runtime.runtimeGetVersion() // 1000),
                self.stream.ptr,
                self._workspace.data.ptr,
            )

    def working(self) -> AbstractContextManager[Any]:
        """See `Device.working`: CuPy's functions and ours use this GPU and its stream within."""
        return self._working()

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._lock, self._device, self.stream:
            yield

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """See `Device.empty`."""
        with self.working():
            array: Array = self.cupy.empty(shape, dtype)
        return array

    def full(self, shape: tuple[int, ...], value: float, dtype: DTypeLike) -> Array:
        """See `Device.full`."""
        return self.array(np.full(shape, value, dtype))

    def array(self, values: Array) -> Array:
        """See `Device.array`."""
        array = self.empty(values.shape, values.dtype)
        self.write(array, values)
        return array

    def write(self, to: Array, values: Array) -> None:
        """See `Device.write`; does not wait for the copy where `values` are in pinned memory."""
        if values.size:
            with self.working():
                _of_cupy(to).set(np.asarray(values, to.dtype, order="C"), stream=self.stream)

    def copy(self, to: Array, values: Array) -> None:
        """Copy one array here into another one, of the same shape."""
        with self.working():
            self.cupy.copyto(to, values)

    def fitting(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """See `Device.fitting`; waits for the caller's stream, which may still write them."""
        with self._lock, self._device:
            self.cupy.cuda.get_current_stream().synchronize()
        if values.dtype == dtype and values.flags.c_contiguous:
            return values
        fitting = self.empty(values.shape, dtype)
        self.copy(fitting, values)
        return fitting

    def take_rows(self, array: Array, rows: Array, out: Array) -> None:
        """See `Device.take_rows`."""
        with self.working():
            self.cupy.take(array, self.array(rows), axis=0, out=out)

    def read(self, array: Array) -> Array:
        """See `Device.read`; waits for all work before."""
        values = np.empty(array.shape, array.dtype)
        self.read_into(array, values)
        return values

    def read_into(self, array: Array, values: Array) -> None:
        """Copy an array here into one of NumPy, after all work before, and wait for it."""
        with self.working():
            if values.size:
                _of_cupy(array).get(stream=self.stream, out=values)
            self.stream.synchronize()

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Make an array of NumPy that copies from and to this GPU are fastest with."""
        import cupyx

        if 0 in shape:
            return np.empty(shape, dtype)
        with self.working():
            array: Array = cupyx.empty_pinned(shape, dtype)
        return array

    def scalar(self, value: float, dtype: DTypeLike) -> Any:
        """See `Device.scalar`: CuPy takes no array of NumPy's for a number."""
        return np.full((), value, dtype)[()]

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        """See `Device.matmul`."""
        self._blas.matmul(a, b, out)

    def product(self, a: Array, b: Array, out: Array) -> Callable[[], None]:
        """See `Device.product`."""
        return partial(self._blas.matmul, a, b, out)

    def sum_rows(self, matrix: Array, ones: Array, out: Array) -> None:
        """See `Device.sum_rows`."""
        self._blas.matmul(ones.reshape(1, -1), matrix, out.reshape(1, -1))


def _of_cupy(array: Any) -> Any:
    """Return the array, which has methods that NumPy's do not have."""
    return array


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            "fusednn.device('cuda') needs CuPy: pip install 'fusednn[cuda]', or the CuPy of your "
            f"version of CUDA. Received: {error}"
        ) from error
    return cupy


def _device_count(cupy: Any) -> int:
    """Count the GPUs that both CuPy and the package can use; there is at least one."""
    try:
        count = _core.cuda_device_count()
    except RuntimeError as error:
        raise RuntimeError(f"fusednn.device('cuda') cannot be used: {error}") from error
    try:
        return min(count, int(cupy.cuda.runtime.getDeviceCount()))
    except Exception as error:  # CuPy's own class of errors
        raise RuntimeError(f"fusednn.device('cuda') cannot be used by CuPy: {error}") from error
