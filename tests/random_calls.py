"""Arguments drawn at random for every function of the C API: mostly right, some spoilt."""

from __future__ import annotations

import ctypes
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lent_context import CudaSettings, Settings
from random_tensors import CODES, INT32S, INT64S, SIZES, RandomTensors
from test_c_api import BatchNormOptions, OptimizerOptions, OptimizerTensors, Tensor
from test_c_api_dlpack import DLTensor

HEADER = Path(__file__).parents[1] / "csrc/include/fusednn/fusednn.h"
INF, NAN = math.inf, math.nan
DOUBLES = (NAN, INF, -INF, -1.0, -0.0, 0.5, 2.0, 1e308, 5e-324)


def functions() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """What each function of the header returns, and the types and names of its parameters."""
    declared = re.compile(r"FNN_API ([\w ]+\*? )(\w+)\((.*?)\);", re.DOTALL)
    found = {}
    for result, name, text in declared.findall(HEADER.read_text()):
        parameters = [p.split() for p in re.split(r",(?![^(]*\))", text) if text != "void"]
        found[name] = result.strip(), [(" ".join(p[:-1]), p[-1]) for p in parameters]
    return found


class RandomCalls(RandomTensors):
    def __init__(self, library: ctypes.CDLL, seed: str) -> None:
        # Where there is a GPU nobody may take the host's memory for its.
        no_gpu = library.fnn_cuda_device_count(ctypes.byref(ctypes.c_int32())) != 0
        super().__init__(seed, (1, 7, -1) if no_gpu else (7, -1))
        self.library = library
        library.fnn_optimizer_state.restype = ctypes.c_char_p
        library.fnn_optimizer_plan_destroy.restype = None
        for destroy in (library.fnn_optimizer_plan_destroy, library.fnn_context_destroy):
            destroy.argtypes = [ctypes.c_void_p]

    def arguments(self, function: str, parameters: list[tuple[str, str]]) -> list[Any]:
        self.function = function
        self.kind = self.random.randrange(6)
        self.list_counts = {"input_count": self.pick(0, 1, 2), "updated_count": self.pick(0, 1, 2)}
        self.made: list[tuple[Callable[[int], Any], int]] = []
        return [MAKERS[kind](self, name) for kind, name in parameters]

    def end(self) -> None:
        for destroy, handle in self.made:
            destroy(handle)

    def structure(self, made: ctypes.Structure) -> int | None:
        """Its address; with a size that is not the library's, there is no more of it than that."""
        if self.spoils():
            return None
        content = bytes(made)
        if self.spoils():
            size = self.pick(0, 8, len(content) - 8, len(content) + 8, 2**64 - 1)
            content = struct.pack("Q", size) + content[8 : max(8, size)]
        return self.memory.block(content)

    def result(self, size: int) -> int | None:
        if self.spoils():
            return None
        address = self.memory.block(b"\xa5" * size)
        self.writable.append((address, size))
        return address

    # ---- what the header's parameters of one type and any name are given

    def tensors(self, name: str) -> int | None:
        """Of `const fnn_tensor*`: one array or a list."""
        if self.function == "fnn_stream":
            if name == "output":
                return None if self.chance(0.5) else self.array(self.whole_lines())
            count = self.list_counts["input_count" if name == "inputs" else "updated_count"]
            return self.array_list(count, lambda _: self.whole_lines())
        if name in ("means", "m2s"):
            return self.array_list(self.count, lambda _: self.vector())
        if name in ("arrays", "grads"):
            return self.array_list(self.count, lambda i: self.tensor(self.shapes[i], self.dtype))
        if name in ("gamma", "beta", "running_mean", "running_var") and self.chance(0.2):
            return None
        if "codes" in self.function:
            make = {"codes": self.pick(*CODES), "values": 0}
            return self.array(
                self.full(make[name]) if name in make else self.scales(self.shapes[0])
            )
        return self.array(self.full() if name in ("x", "y", "grad", "grad_x") else self.vector())

    def int32(self, name: str) -> int:
        known = {"kind": self.kind, **self.list_counts}
        return self.or_spoilt(known[name], INT32S) if name in known else self.pick(*INT32S, 1, 2)

    def int64(self, name: str) -> int:
        """A number of parts, of arrays, of steps, or of elements of each channel."""
        if self.function == "fnn_batch_norm_backward_apply":
            return self.or_spoilt(math.prod(self.shapes[0]) // max(1, self.channels), INT64S)
        return self.or_spoilt(
            self.pick(1, self.count) if name == "step_count" else self.count, INT64S
        )

    def numbers(self, name: str) -> int | None:
        values = [self.or_spoilt(self.pick(1, 2, 97), INT64S) for _ in range(self.count)]
        return None if self.spoils() else self.integers(values)

    def dl_tensor(self, name: str) -> int | None:
        view = self.full()
        device = {0: 1, 1: 2}.get(view.device_type, view.device_type)
        bits = self.or_spoilt(8 * SIZES.get(view.dtype, 4), (0, 4, 8, 255))
        code = self.or_spoilt(4 if view.dtype == 3 else 2, (0, 1, 5, 255))
        offset = self.or_spoilt(0, (2**63, 2**64 - 8))
        made = DLTensor(
            *(view.data, device, view.device_id, view.ndim, code, bits, self.or_spoilt(1, (0, 4))),
            *(view.shape, view.strides, offset),
        )
        return None if self.spoils() else self.memory.block(bytes(made))

    def batch_norm_options(self, name: str) -> int | None:
        axis = self.pick(self.channel_axis, self.channel_axis - len(self.shapes[0]))
        numbers = (1e-5, 0.1, self.pick(1.0, 0.0, 0.1, -2.0))
        return self.structure(
            BatchNormOptions(
                *(ctypes.sizeof(BatchNormOptions), self.or_spoilt(axis, (*INT64S, 4, -5))),
                *(self.or_spoilt(number, DOUBLES) for number in numbers),
                self.pick(0, 1, -1),
            )
        )

    def optimizer_options(self, name: str) -> int | None:
        made = OptimizerOptions(size=ctypes.sizeof(OptimizerOptions), grad_scale=1.0)
        made.given = self.or_spoilt(1, (0, 2, 3, 7, 2**32 - 1))
        made.convention = self.or_spoilt(self.pick(0, 0, 1, 2, 3, 4, 5), INT32S)
        made.hyperparameters = (ctypes.c_double * 8)(
            self.or_spoilt(0.1, DOUBLES), *(self.pick(*DOUBLES, 0.9, 1.0) for _ in range(7))
        )
        made.clip_value = made.max_norm_each = made.max_norm = INF
        made.decoupled_weight_decay = self.pick(-1, 0, 1, -(2**31))
        made.maximize, made.skip_nonfinite = self.pick(0, 1), self.pick(0, 1)
        made.stochastic_rounding = self.or_spoilt(self.pick(0, int(self.dtype == 3)), (1,))
        made.stochastic_rounding_seed = self.or_spoilt(0, (2**64 - 1,))
        for member in ("weight_decay", "grad_scale", "clip_value", "max_norm_each", "max_norm"):
            setattr(made, member, self.or_spoilt(getattr(made, member), DOUBLES))
        made.ema_momentum = self.or_spoilt(0.0, DOUBLES)
        made.device_scalars = self.or_spoilt(None, (self.memory.block(bytes(40)),))
        return self.structure(made)

    def optimizer_tensors(self, name: str) -> int | None:
        def alike(dtype: int) -> int | None:
            return self.array_list(self.count, lambda i: self.tensor(self.shapes[i], dtype))

        made = OptimizerTensors(ctypes.sizeof(OptimizerTensors), self.or_spoilt(self.count, INT64S))
        made.params, made.grads = alike(self.dtype), alike(self.dtype)
        for s in range(4):
            state = self.library.fnn_optimizer_state(self.kind, s)
            usual = state not in (None, b"grad_avgs", b"max_exp_avg_sqs")
            if usual == self.spoils():
                continue
            dtype = 1 if self.dtype == 1 else self.pick(0, 0, 3, *CODES)
            made.states[s] = alike(dtype)
            if dtype in CODES:
                made.state_scales[s] = self.array_list(
                    self.count, lambda i: self.scales(self.shapes[i])
                )
        made.ema = alike(self.dtype) if self.chance(0.2) else None
        made.low_precision_copies = alike(2) if self.chance(0.2) else None
        made.steps, made.step_count = self.numbers("steps"), self.int64("step_count")
        return self.structure(made)

    def cuda_settings(self, name: str) -> int | None:
        made = CudaSettings(size=ctypes.sizeof(CudaSettings))
        made.allocate, made.release = self.pick((None, None), (None, 1), (1, None))
        made.spare_multiprocessors = self.pick(*INT32S)
        return self.structure(made)

    def context_settings(self, name: str) -> int | None:
        made = Settings(size=ctypes.sizeof(Settings), num_threads=self.or_spoilt(0, INT32S))
        cuda = self.cuda_settings(name) if self.chance(0.3) else None
        made.cuda = ctypes.cast(cuda, ctypes.POINTER(CudaSettings))
        return self.structure(made)

    def context(self, name: str) -> int | None:
        """A new one, or NULL."""
        made = ctypes.c_void_p()
        self.library.fnn_context_create(
            ctypes.c_void_p(self.context_settings(name)), ctypes.byref(made)
        )
        if made and self.function != "fnn_context_destroy":
            self.made.append((self.library.fnn_context_destroy, made.value))
        return made.value

    def plan(self, name: str) -> int | None:
        """A new one, after a step that may have failed, or NULL."""
        made = ctypes.c_void_p()
        lists = ctypes.c_void_p(self.optimizer_tensors(name))
        self.library.fnn_optimizer_plan_create(self.kind, lists, ctypes.byref(made))
        if made and self.function != "fnn_optimizer_plan_destroy":
            self.made.append((self.library.fnn_optimizer_plan_destroy, made.value))
        if made and self.chance(0.5):
            given = map(ctypes.c_void_p, (self.optimizer_options(name), self.numbers(name)))
            self.library.fnn_optimizer_plan_step(made, *given, ctypes.c_int64(self.count), None)
        return made.value


def _result(size: int) -> Callable[[RandomCalls, str], int | None]:
    return lambda calls, _: calls.result(size)


#: What makes a parameter of each type.
MAKERS: dict[str, Callable[[RandomCalls, str], Any]] = {
    "const fnn_tensor*": RandomCalls.tensors,
    "fnn_tensor*": _result(ctypes.sizeof(Tensor)),
    "const fnn_batch_norm_options*": RandomCalls.batch_norm_options,
    "const fnn_optimizer_options*": RandomCalls.optimizer_options,
    "const fnn_optimizer_tensors*": RandomCalls.optimizer_tensors,
    "fnn_optimizer_plan*": RandomCalls.plan,
    "fnn_optimizer_plan**": _result(8),
    "const fnn_cuda_settings*": RandomCalls.cuda_settings,
    "const fnn_context_settings*": RandomCalls.context_settings,
    "fnn_context*": RandomCalls.context,
    "fnn_context**": _result(8),
    "const void*": RandomCalls.dl_tensor,
    "void*": lambda calls, _: None,  # a stream
    "const char*": lambda calls, _: calls.pick(None, b"", b"adam", b"x" * 999),
    "char*": _result(5),
    "size_t": lambda calls, _: calls.pick(0, 1, 5),
    "uint64_t": lambda calls, _: calls.or_spoilt(0, (1, 2, 2**64 - 1)),
    "int32_t": RandomCalls.int32,
    "int32_t*": _result(4),
    "int64_t": RandomCalls.int64,
    "int64_t*": _result(8),
    "const int64_t*": RandomCalls.numbers,
    "double": lambda calls, _: calls.or_spoilt(0.1, DOUBLES),
    "double*": _result(8),
}
