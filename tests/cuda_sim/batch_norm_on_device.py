"""BatchNorm's CUDA drivers as functions on NumPy arrays, on a simulated device of any size."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from simulator import DeviceArray, Simulator

import reference as ref

FUNCTIONS = (
    *("forward", "backward", "backward_from_output", "inference", "inference_backward"),
    *("statistics", "apply", "backward_reduce", "backward_apply"),
)
_POINTERS = (
    *("x", "y_in", "grad", "gamma", "beta", "mean", "inv_std", "m2", "running_mean"),
    *("running_var", "y", "grad_x", "sum_grad", "sum_grad_xhat"),
)


class BatchNormProblem(ctypes.Structure):
    """`BatchNorm` of csrc/core/problem.h."""

    _fields_ = [
        ("dtype", ctypes.c_int32),
        *((name, ctypes.c_int64) for name in ("outer", "channels", "inner", "row_stride")),
        *((name, ctypes.c_double) for name in ("eps", "momentum", "negative_slope")),
        ("unbiased_running_var", ctypes.c_bool),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("count", ctypes.c_double),
    ]


class Limits(ctypes.Structure):
    """`DeviceLimits` of csrc/cuda/batch_norm_schedule.h."""

    _fields_ = [
        ("multiprocessors", ctypes.c_int32),
        ("blocks_per_multiprocessor", ctypes.c_int32),
        ("shared_per_block", ctypes.c_int64),
        ("shared_per_multiprocessor", ctypes.c_int64),
        ("shared_reserved", ctypes.c_int64),
        ("cooperative", ctypes.c_bool),
    ]


class ResidentProblem(ctypes.Structure):
    """`ResidentProblem` of csrc/cuda/batch_norm_schedule.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("units", "leaves", "leaf_bytes", "shared_bytes")),
        *((name, ctypes.c_double) for name in ("resident_cost", "two_pass_cost")),
    ]


class Schedule(ctypes.Structure):
    """`ResidentSchedule` of csrc/cuda/batch_norm_schedule.h."""

    _fields_ = [
        ("fits", ctypes.c_bool),
        *((name, ctypes.c_int64) for name in ("group", "groups", "leaves_per_block")),
        ("shared_bytes", ctypes.c_size_t),
    ]


def limits(
    multiprocessors: int, blocks: int = 2, kilobytes: int = 228, cooperative: bool = True
) -> Limits:
    """A device with that much shared memory on a multiprocessor."""
    kilobyte = 1024
    return Limits(
        multiprocessors,
        blocks,
        (kilobytes - 1) * kilobyte,
        kilobytes * kilobyte,
        kilobyte,
        cooperative,
    )


#: No multiprocessor to keep anything on: two passes.
TWO_PASSES = limits(0)
#: By name, devices that keep leaves in as many ways as there are.
DEVICES = {
    "two_passes": TWO_PASSES,
    "one": limits(1),
    "three": limits(3, blocks=1),
    "registers_only": limits(16, kilobytes=24),
    "large": limits(132),
    "not_cooperative": limits(16, cooperative=False),
}


def smaller(limits: Limits) -> Limits:
    """A device whose resident blocks have no more threads than the thread sanitizer can follow.

    It follows 8128 at once; blocks that wait for one another have 256 each.
    """
    most = 28 // limits.blocks_per_multiprocessor
    copy = Limits.from_buffer_copy(limits)
    copy.multiprocessors = min(limits.multiprocessors, most)
    return copy


class OnDevice:
    """The functions of `BatchNormFunctions`; arrays go to the device and back."""

    def __init__(self, simulator: Simulator, limits: Limits, offset: int = 0) -> None:
        if simulator.sanitizer == "thread":
            limits = smaller(limits)
        self.simulator, self.limits, self.offset = simulator, limits, offset
        #: Of the last call, by name.
        self.arrays: dict[str, DeviceArray] = {}
        simulator.set(
            multiprocessors=max(1, limits.multiprocessors),
            blocks_per_multiprocessor=limits.blocks_per_multiprocessor,
            cooperative=limits.cooperative,
            shared_per_block=limits.shared_per_block,
            shared_per_multiprocessor=limits.shared_per_multiprocessor,
        )

    def call(
        self,
        function: str,
        main: np.ndarray,
        channel_axis: int,
        outputs: dict[str, str],
        *,
        negative_slope: float | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        unbiased_running_var: bool = True,
        count: int = 0,
        **inputs: np.ndarray | None,
    ) -> list[np.ndarray]:
        """Call a function; return `outputs`, in order.

        An output is "full" or "channels", poisoned before, or the name of the input whose place it
        takes or whose array it changes.
        """
        axis = channel_axis % main.ndim
        channels = main.shape[axis]
        problem = BatchNormProblem(
            dtype=ref.DTYPES.index(main.dtype),
            outer=int(np.prod(main.shape[:axis], dtype=np.int64)),
            channels=channels,
            inner=int(np.prod(main.shape[axis + 1 :], dtype=np.int64)),
            eps=eps,
            momentum=momentum,
            negative_slope=1.0 if negative_slope is None else negative_slope,
            unbiased_running_var=unbiased_running_var,
            count=count,
        )
        arrays: dict[str, DeviceArray] = {}
        for name, values in inputs.items():
            if values is not None:
                arrays[name] = self.simulator.array(values, offset=self._offset(values))
        own = ref.statistics_dtype(main.dtype)
        for name, kind in outputs.items():
            if kind == "full":
                arrays[name] = self.simulator.empty(main.shape, main.dtype, self._offset(main))
            elif kind == "channels":
                arrays[name] = self.simulator.empty((channels,), own)
            else:
                arrays[name] = arrays[kind]
        for name, array in arrays.items():
            setattr(problem, name, array.pointer)
        self.arrays = arrays
        status = self.simulator.functions.simulated_batch_norm(
            FUNCTIONS.index(function), ctypes.byref(problem), ctypes.byref(self.limits)
        )
        assert status == 0, f"cudaError {status}: {self.simulator.report}"
        return [arrays[name].get() for name in outputs]

    def _offset(self, array: np.ndarray) -> int:
        """Bytes of `offset` elements, for full arrays."""
        return self.offset * array.itemsize if array.ndim > 1 else 0

    def forward(
        self,
        x: np.ndarray,
        gamma: Any,
        beta: Any,
        *,
        running: tuple[np.ndarray, np.ndarray] | None = None,
        in_place: bool = False,
        **how: Any,
    ) -> list[np.ndarray]:
        """y, mean, inv_std and, where given, running_mean and running_var."""
        outputs = {"y": "x" if in_place else "full", "mean": "channels", "inv_std": "channels"}
        if running is not None:
            how |= {"running_mean": running[0], "running_var": running[1]}
            outputs |= {"running_mean": "running_mean", "running_var": "running_var"}
        axis = how.pop("channel_axis")
        return self.call("forward", x, axis, outputs, x=x, gamma=gamma, beta=beta, **how)

    def gradients(self, function: str, main: np.ndarray, into: str = "full", **how: Any) -> Any:
        """grad_x, grad_gamma, grad_beta."""
        outputs = {"grad_x": into, "sum_grad_xhat": "channels", "sum_grad": "channels"}
        return self.call(function, main, how.pop("channel_axis"), outputs, **how)
