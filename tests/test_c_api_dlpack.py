"""Tensors of DLPack in C programs: read as they are, or refused by name."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_double, c_int64, c_uint64
from typing import Any

import numpy as np
import pytest

from loaded_library import loaded_library
from test_c_api import Tensor

CPU, CUDA, CUDA_HOST, METAL, CUDA_MANAGED = 1, 2, 3, 8, 13
INT, FLOAT, BFLOAT = 0, 2, 4
READ_ONLY, COPIED = 1, 2
CODES = {np.float32: 0, np.float64: 1, np.float16: 2}


class DLTensor(ctypes.Structure):
    """As in https://dmlc.github.io/dlpack/latest/c_api.html; the first test reads NumPy's."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    found = loaded_library()
    found.fnn_last_error.restype = ctypes.c_char_p
    found.fnn_tensor_from_dlpack.argtypes = [ctypes.c_void_p, c_uint64, ctypes.c_void_p]
    return found


def exported(capsule: Any) -> DLTensor:
    """The tensor in a capsule, which begins with it."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return DLTensor.from_address(pointer_of(capsule, b"dltensor"))


def described(**change: Any) -> DLTensor:
    """Two rows of three floats in C order, with what `change` says."""
    memory = np.zeros((2, 3), np.float32)
    made = DLTensor(memory.ctypes.data, CPU, 0, 2, FLOAT, 32, 1, (c_int64 * 2)(2, 3))
    made.memory = memory
    for name, value in change.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_kernels_compute_on_the_tensors_of_another_package(
    dtype: type, order: Any, library: ctypes.CDLL
) -> None:
    x = np.array([[-2, 4, -6], [8, -10, 12]], dtype, order=order)
    y = np.zeros_like(x)
    views = []
    for array in (x, y):
        capsule, view = array.__dlpack__(), Tensor()
        assert library.fnn_tensor_from_dlpack(byref(exported(capsule)), 0, byref(view)) == 0
        view.capsule = capsule
        views.append(view)
    assert (views[0].data, views[0].ndim, views[0].dtype) == (x.ctypes.data, 2, CODES[dtype])
    assert library.fnn_leaky_relu(byref(views[0]), c_double(0.5), byref(views[1])) == 0
    np.testing.assert_array_equal(y, np.where(x > 0, x, x / 2))


def test_gaps_and_expanded_axes_are_refused_by_the_kernels(library: ctypes.CDLL) -> None:
    wide = np.zeros((2, 6), np.float32)
    for array in (wide[:, ::2], np.lib.stride_tricks.as_strided(wide, (2, 3), (0, 4))):
        capsule, view, y = array.__dlpack__(), Tensor(), Tensor()
        assert library.fnn_tensor_from_dlpack(byref(exported(capsule)), 0, byref(view)) == 0
        assert library.fnn_tensor_from_dlpack(byref(described()), 0, byref(y)) == 0
        assert library.fnn_leaky_relu(byref(view), c_double(0.5), byref(y)) == 2
        assert b"`x` must be dense in memory" in library.fnn_last_error()


def test_the_first_element_lies_behind_the_offset(library: ctypes.CDLL) -> None:
    view, given = Tensor(), described(byte_offset=8, shape=(c_int64 * 2)(2, 2))
    assert library.fnn_tensor_from_dlpack(byref(given), 0, byref(view)) == 0
    assert view.data == given.data + 8
    empty = described(data=None, byte_offset=8, shape=(c_int64 * 2)(0, 3))
    assert library.fnn_tensor_from_dlpack(byref(empty), 0, byref(view)) == 0
    assert view.data is None


@pytest.mark.parametrize(
    ("device", "expected"),
    [(CPU, (0, 0)), (CUDA_HOST, (0, 0)), (CUDA, (1, 3)), (CUDA_MANAGED, (1, 3))],
)
def test_devices(device: int, expected: tuple[int, int], library: ctypes.CDLL) -> None:
    view, given = Tensor(), described(device_type=device, device_id=3)
    assert library.fnn_tensor_from_dlpack(byref(given), 0, byref(view)) == 0
    assert (view.device_type, view.device_id) == expected


def test_bfloat16(library: ctypes.CDLL) -> None:
    view = Tensor()
    given = described(code=BFLOAT, bits=16)
    assert library.fnn_tensor_from_dlpack(byref(given), 0, byref(view)) == 0
    assert view.dtype == 3


def test_read_only_tensors_are_not_written(library: ctypes.CDLL) -> None:
    x, y, copied = Tensor(), Tensor(), Tensor()
    given = described()
    assert library.fnn_tensor_from_dlpack(byref(given), READ_ONLY, byref(y)) == 0
    assert library.fnn_tensor_from_dlpack(byref(given), 0, byref(x)) == 0
    assert library.fnn_leaky_relu(byref(x), c_double(0.5), byref(y)) == 2
    assert library.fnn_last_error() == b"`y` must be writable. Received: a read-only array"
    assert library.fnn_tensor_from_dlpack(byref(given), COPIED, byref(copied)) == 0
    assert (x.flags, y.flags, copied.flags) == (0, 1, 0)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"code": INT}, 1, "be float32, .* Received: DLPack type code 0 of 32 bits, 1 lanes"),
        ({"code": BFLOAT}, 1, "be float32, .* Received: DLPack type code 4 of 32 bits, 1 lanes"),
        ({"bits": 8}, 1, "be float32, .* Received: DLPack type code 2 of 8 bits, 1 lanes"),
        ({"lanes": 4}, 1, "be float32, .* Received: DLPack type code 2 of 32 bits, 4 lanes"),
        (
            {"device_type": METAL, "device_id": 1},
            2,
            r"be in the memory of the CPU or of an NVIDIA GPU. Received: DLPack device \(8, 1\)",
        ),
        ({"data": None}, 2, r"have memory. Received: data=NULL, shape=\(2, 3\)"),
        ({"shape": None}, 2, "have a length for each axis. Received: ndim=2, shape=NULL"),
        ({"ndim": -1}, 2, "have from 0 to 64 axes. Received: ndim=-1"),
        ({"ndim": 65}, 2, "have from 0 to 64 axes. Received: ndim=65"),
        ({"byte_offset": 2**64 - 8}, 2, "begin at an address. Received: byte_offset=1844674407"),
        ({"shape": (c_int64 * 2)(-2, 3)}, 2, "have lengths that are not negative"),
    ],
)
def test_refusals(change: dict[str, Any], status: int, message: str, library: ctypes.CDLL) -> None:
    view = Tensor(ndim=7)
    assert library.fnn_tensor_from_dlpack(byref(described(**change)), 0, byref(view)) == status
    with pytest.raises(ValueError, match=f"^`dl_tensor` must {message}"):
        raise ValueError(library.fnn_last_error().decode())
    assert (view.ndim, view.data) == (7, None)


def test_null(library: ctypes.CDLL) -> None:
    for arguments, name in (
        ((None, 0, byref(Tensor())), "dl_tensor"),
        ((byref(described()), 0, None), "tensor"),
    ):
        assert library.fnn_tensor_from_dlpack(*arguments) == 2
        assert library.fnn_last_error().decode() == f"`{name}` must not be NULL. Received: NULL"
