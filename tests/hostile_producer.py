"""What offers its memory through DLPack, may lie about it and counts how often it is released."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from test_c_api_dlpack import CPU, FLOAT, DLTensor

_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", _DELETER)]


class _ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


def new_capsule(pointer: int, name: bytes) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(pointer, name, None)


class Producer:
    """Two rows of three numbers, with what `change` says of them otherwise."""

    def __init__(
        self,
        *,
        versioned: bool = True,
        name: bytes | None = None,
        device: Any = (CPU, 0),
        **change: Any,
    ) -> None:
        self.memory = np.array([[-2, 4, -6], [8, -10, 12]], np.float32)
        self.device = device
        self.released: list[int] = []
        deleter = _DELETER(self.released.append)
        tensor = DLTensor(self.memory.ctypes.data, CPU, 0, 2, FLOAT, 32, 1)
        for member, numbers in (("shape", (2, 3)), ("strides", (3, 1))):
            numbers = change.pop(member, numbers)
            if numbers is not None:
                setattr(tensor, member, (ctypes.c_int64 * len(numbers))(*numbers))
        major, flags = change.pop("major", 1), change.pop("flags", 0)
        for member, value in change.items():
            setattr(tensor, member, value)
        if versioned:
            self._managed = _ManagedVersioned(major, 1, None, deleter, flags, tensor)
        else:
            self._managed = _Managed(tensor, None, deleter)
        self.address = ctypes.addressof(self._managed)
        self._name = name or (b"dltensor_versioned" if versioned else b"dltensor")

    def __dlpack__(self, **_: Any) -> Any:
        return new_capsule(self.address, self._name)

    def __dlpack_device__(self) -> Any:
        return self.device
