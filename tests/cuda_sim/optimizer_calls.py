"""Optimizer steps through the C API: one call for NumPy's arrays and the simulated device's."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from simulator import DeviceArray, Simulator

from fusednn import _core

MAX_HYPERPARAMETERS, MAX_STATES, CODE_BLOCK = 8, 4, 256
DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}
SIGNED_CODES, UNSIGNED_CODES = 16, 17
#: Of each optimizer's states, by name: the codes they may be kept in.
CODES = {
    "momentum_buffers": SIGNED_CODES,
    "sums": UNSIGNED_CODES,
    "square_avgs": UNSIGNED_CODES,
    "exp_avgs": SIGNED_CODES,
    "exp_avg_sqs": UNSIGNED_CODES,
}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.c_void_p),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    ]


class _DeviceScalars(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p) for name in ("lr", "grad_scale", "step", "found_inf", "stepped")
    ]


class _Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("convention", ctypes.c_int32),
        ("given", ctypes.c_uint32),
        ("hyperparameters", ctypes.c_double * MAX_HYPERPARAMETERS),
        ("weight_decay", ctypes.c_double),
        ("decoupled_weight_decay", ctypes.c_int32),
        ("maximize", ctypes.c_int32),
        ("grad_scale", ctypes.c_double),
        ("clip_value", ctypes.c_double),
        ("max_norm_each", ctypes.c_double),
        ("max_norm", ctypes.c_double),
        ("skip_nonfinite", ctypes.c_int32),
        ("stochastic_rounding", ctypes.c_int32),
        ("ema_momentum", ctypes.c_double),
        ("stochastic_rounding_seed", ctypes.c_uint64),
        ("device_scalars", ctypes.POINTER(_DeviceScalars)),
    ]


class _Tensors(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("count", ctypes.c_int64),
        ("params", ctypes.POINTER(_Tensor)),
        ("grads", ctypes.POINTER(_Tensor)),
        ("states", ctypes.POINTER(_Tensor) * MAX_STATES),
        ("ema", ctypes.POINTER(_Tensor)),
        ("low_precision_copies", ctypes.POINTER(_Tensor)),
        ("steps", ctypes.POINTER(ctypes.c_int64)),
        ("step_count", ctypes.c_int64),
        ("state_scales", ctypes.POINTER(_Tensor) * MAX_STATES),
    ]


class CallError(Exception):
    """A call's status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def c_api() -> ctypes.CDLL:
    """The library that the package uses."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("libfusednn.so"):
            library = ctypes.CDLL(line.split()[-1])
            library.fnn_last_error.restype = ctypes.c_char_p
            return library
    raise AssertionError("libfusednn.so is not loaded")


def check(status: int) -> None:
    if status != 0:
        raise CallError(status, c_api().fnn_last_error().decode())


class _CudaSettings(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("stream", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p * 3),
        ("spare_multiprocessors", ctypes.c_int32),
    ]


#: CUDA's handle of it.
PER_THREAD_STREAM = 2


@contextmanager
def on_stream(stream: int) -> Iterator[None]:
    """Calls within are given to this stream."""
    settings = _CudaSettings(size=ctypes.sizeof(_CudaSettings), stream=stream)
    check(c_api().fnn_cuda_set(ctypes.byref(settings)))
    yield
    check(c_api().fnn_cuda_set(None))


def _pointer(array: np.ndarray | DeviceArray) -> int:
    return array.pointer if isinstance(array, DeviceArray) else array.ctypes.data


def _views(arrays: list | None, codes: int | None = None) -> Any:
    """The tensor views of a list: ctypes' arrays keep what they point to alive."""
    if arrays is None:
        return None
    views = (_Tensor * len(arrays))()
    for view, array in zip(views, arrays, strict=True):
        view.data = _pointer(array)
        view.shape = (ctypes.c_int64 * len(array.shape))(*array.shape)
        view.ndim = len(array.shape)
        view.dtype = DTYPES[array.dtype.name] if codes is None else codes
        view.device_type = int(isinstance(array, DeviceArray))
    return views


class Lists:
    """The arrays of an optimizer by name: params, grads, states, ema, low_precision_copies.

    A state whose arrays are uint8 is in codes; its scales are "<name>.scales".
    """

    def __init__(self, kind: str, arrays: dict[str, list]) -> None:
        self.kind, self.arrays = kind, arrays
        self._plan: ctypes.c_void_p | None = None

    @classmethod
    def on(cls, device: Simulator, lists: Lists, offset: int = 0) -> Lists:
        """Copies of NumPy's arrays on the device, `offset` elements after an aligned address."""
        arrays = {
            name: [device.array(a, offset=offset * a.dtype.itemsize) for a in list_]
            for name, list_ in lists.arrays.items()
        }
        return cls(lists.kind, arrays)

    def values(self) -> dict[str, list[np.ndarray]]:
        """What the arrays hold now, apart from the gradients."""
        return {
            name: [a.get() if isinstance(a, DeviceArray) else a.copy() for a in list_]
            for name, list_ in self.arrays.items()
            if name != "grads"
        }

    def set_grads(self, grads: list[np.ndarray]) -> None:
        for ours, new in zip(self.arrays["grads"], grads, strict=True):
            if isinstance(ours, DeviceArray):
                ours.set(new)
            else:
                ours[...] = new

    def replace_grads(self, grads: list) -> None:
        """Other arrays in place of the gradients', in the plan that there is, too."""
        if self._plan is not None:
            check(c_api().fnn_optimizer_plan_set_grads(self._plan, _views(grads)))
        self.arrays["grads"] = grads

    def _create(self) -> ctypes.c_void_p:
        t = _Tensors(size=ctypes.sizeof(_Tensors), count=len(self.arrays["params"]))
        t.params, t.grads = _views(self.arrays["params"]), _views(self.arrays["grads"])
        t.ema = _views(self.arrays.get("ema"))
        t.low_precision_copies = _views(self.arrays.get("low_precision_copies"))
        for i, name in enumerate(_core.optimizer_states(self.kind)):
            arrays = self.arrays.get(name)
            in_codes = arrays is not None and arrays[0].dtype == np.uint8
            t.states[i] = _views(arrays, CODES[name] if in_codes else None)
            t.state_scales[i] = _views(self.arrays.get(f"{name}.scales"))
        plan = ctypes.c_void_p()
        kind = _core.optimizer_names().index(self.kind)
        check(c_api().fnn_optimizer_plan_create(kind, ctypes.byref(t), ctypes.byref(plan)))
        return plan

    def step(self, steps: int | list[int], convention: str = "torch", **options: Any) -> int:
        """One step; returns what `stepped` receives. Options as those of `ops.optimizer_step`.

        `scalars` are arrays of the device by the names of `fnn_device_scalars`.
        """
        if self._plan is None:
            self._plan = self._create()
        scalars = options.pop("scalars", None)
        seed = options.pop("stochastic_rounding_seed", None)
        decoupled = options.pop("decoupled_weight_decay", None)
        o = _Options(size=ctypes.sizeof(_Options), grad_scale=1.0)
        o.convention = _core.convention_names().index(convention)
        o.clip_value = o.max_norm_each = o.max_norm = math.inf
        o.decoupled_weight_decay = -1 if decoupled is None else int(decoupled)
        o.stochastic_rounding, o.stochastic_rounding_seed = int(seed is not None), seed or 0
        names = _core.optimizer_hyperparameters(self.kind)
        for name, value in options.items():
            if name in names:
                o.given |= 1 << names.index(name)
                o.hyperparameters[names.index(name)] = value
            else:
                assert name in dict(_Options._fields_), name
                setattr(o, name, value)
        if scalars is not None:
            pointers = {name: array.pointer for name, array in scalars.items()}
            o.device_scalars = ctypes.pointer(_DeviceScalars(**pointers))
        numbers = [steps] if isinstance(steps, int) else steps
        step_array = (ctypes.c_int64 * len(numbers))(*numbers)
        stepped = ctypes.c_int32(7)
        status = c_api().fnn_optimizer_plan_step(
            self._plan, ctypes.byref(o), step_array, len(numbers), ctypes.byref(stepped)
        )
        check(status)
        return stepped.value

    def __del__(self) -> None:
        if self._plan is not None:
            c_api().fnn_optimizer_plan_destroy(self._plan)


def quantized_zeros(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of a state of zeros."""
    blocks = -(-math.prod(shape) // CODE_BLOCK)
    return np.zeros(shape, np.uint8), np.zeros(blocks, np.float32)
