"""Arrays for the C API in fenced memory, some of them described wrongly.

Never as longer than the memory that there is: that no library can notice.
"""

from __future__ import annotations

import ctypes
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from fenced_memory import FencedMemory
from test_c_api import Tensor

FLOATS = {0: np.float32, 1: np.float64, 2: np.float16, 3: ml_dtypes.bfloat16}
CODES = (16, 17)
SIZES = {0: 4, 1: 8, 2: 2, 3: 2, 16: 1, 17: 1}

INT32S = (-1, 0, -(2**31), 2**31 - 1)
INT64S = (-1, 0, -(2**63), 2**63 - 1, 2**31)
NO_RANKS = (-1, -(2**31), 65, 2**31 - 1)
MOST = 1000  # elements
#: Without elements, however long they are otherwise.
EMPTY = ((0, 3), (2**40, 3, 0), (2**29, 0, 2**29), (0, 1, 2**59), (0, 2**60))
LENGTHS = (0, -1, -(2**63), 2**63 - 1, 2**62)
STRIDES = (0, -1, -(2**63), 2**63 - 1, 2**61)


class RandomTensors:
    """What the arrays of one call have in common is drawn by `begin`."""

    def __init__(self, seed: str, devices: tuple[int, ...]) -> None:
        self.random = random.Random(seed)
        self.devices = devices
        self.memory = FencedMemory(160)
        generator = np.random.default_rng(0)
        values = generator.uniform(0.5, 2.0, MOST)
        self.contents = {number: values.astype(dtype).tobytes() for number, dtype in FLOATS.items()}
        self.contents |= dict.fromkeys(CODES, generator.bytes(MOST))
        self.noise = generator.bytes(8 * MOST)

    def begin(self) -> None:
        self.memory.clear()
        self.spoilt_share = self.pick(0.0, 0.03, 0.2)
        self.dtype = self.pick(*FLOATS)
        self.count = self.pick(1, 2, 3)  # of arrays in a list
        self.shapes = [self.shape() for _ in range(self.count)]
        # Of few channels: there are means of each.
        self.channel_axis = min(range(len(self.shapes[0])), key=self.shapes[0].__getitem__)
        if max(self.shapes[0]) < 1000:
            self.channel_axis = self.random.randrange(len(self.shapes[0]))
        self.channels = self.shapes[0][self.channel_axis]
        self.reversed_axes = self.chance(0.3)
        #: Address and length of all that a call may write: arrays and places for results.
        self.writable: list[tuple[int, int]] = []

    def pick(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def spoils(self) -> bool:
        return self.chance(self.spoilt_share)

    def or_spoilt(self, value: Any, choices: tuple[Any, ...]) -> Any:
        return self.pick(*choices) if self.spoils() else value

    def shape(self) -> tuple[int, ...]:
        if self.chance(0.1):
            return self.pick(*EMPTY)
        lengths = tuple(self.pick(1, 1, 2, 3, 7, 17) for _ in range(self.pick(1, 2, 3, 4)))
        return lengths if math.prod(lengths) <= MOST else self.shape()

    def integers(self, numbers: Any) -> int:
        numbers = list(numbers)
        return self.memory.block(struct.pack(f"{len(numbers)}q", *numbers))

    def tensor(self, shape: tuple[int, ...], dtype: int, *, aligned: bool = False) -> Tensor:
        nbytes = math.prod(shape) * SIZES[dtype]
        content = self.noise if self.chance(0.1) else self.contents[dtype]
        data = self.memory.block(content[:nbytes], 0 if aligned else self.pick(0, 0, 1, 2, 4, 8))
        made = Tensor(data, ndim=len(shape), dtype=dtype)
        lengths, strides = list(shape), self.strides(shape)
        if self.spoils():
            self.spoil(made, lengths, strides)
        if made.data:
            self.writable.append((made.data, nbytes))
        for member, numbers in (("shape", lengths), ("strides", strides)):
            address = self.integers(numbers)
            setattr(made, member, ctypes.cast(address, ctypes.POINTER(ctypes.c_int64)))
        if not self.reversed_axes and self.chance(0.7) and strides == self.strides(shape):
            made.strides = None
        return made

    def strides(self, shape: tuple[int, ...]) -> list[int]:
        strides, step = [0] * len(shape), 1
        axes = range(len(shape))
        for axis in axes if self.reversed_axes else reversed(axes):
            strides[axis] = step
            step = step * shape[axis] % 2**63
        return strides

    def spoil(self, made: Tensor, lengths: list[int], strides: list[int]) -> None:
        axis = self.random.randrange(len(lengths))
        what = self.pick("data", "ndim", "length", "stride", "dtype", "device", "flags", "overlap")
        if what == "data":
            made.data = None
        elif what == "ndim":
            fewer = (0, len(lengths) - 1) if 0 not in lengths else ()
            made.ndim = self.pick(*NO_RANKS, *fewer)
        elif what == "length":
            lengths[axis] = self.pick(*LENGTHS)
        elif what == "stride":
            strides[axis] = self.pick(*STRIDES, 2 * strides[axis] % 2**63)
        elif what == "dtype":
            made.dtype = self.pick(
                *(d for d in SIZES if SIZES[d] <= SIZES[made.dtype]), 4, *INT32S[2:]
            )
        elif what == "device":
            made.device_type, made.device_id = self.pick(*self.devices), self.pick(*INT32S)
        elif what == "flags":
            made.flags = self.pick(1, 2, 2**32 - 1)
        elif self.writable and math.prod(lengths):
            # As much memory as that of the last array, up to its end, and perhaps from before it.
            other, length = self.writable[-1]
            made.data = other + length - math.prod(lengths) * SIZES[made.dtype] - self.pick(0, 0, 1)

    def full(self, dtype: int | None = None) -> Tensor:
        return self.tensor(self.shapes[0], self.dtype if dtype is None else dtype)

    def vector(self) -> Tensor:
        return self.tensor((self.channels,), 1 if self.dtype == 1 else 0)

    def scales(self, shape: tuple[int, ...]) -> Tensor:
        return self.tensor((-(-math.prod(shape) // 256),), 0)

    def whole_lines(self) -> Tensor:
        return self.tensor((128,), 0, aligned=True)

    def array(self, made: Tensor) -> int | None:
        return None if self.spoils() else self.memory.block(bytes(made))

    def array_list(self, count: int, make: Callable[[int], Tensor]) -> int | None:
        if self.spoils():
            return None
        return self.memory.block(b"".join(bytes(make(i)) for i in range(count)))
