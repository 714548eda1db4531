"""Arrays of packages that are mistaken: refused by name, never written to, released once."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest

from fusednn import ops
from hostile_producer import Producer

EXPECTED = np.array([[-1, 4, -3], [8, -5, 12]], np.float32)
GIVEN = 2 * np.minimum(EXPECTED, 0) + np.maximum(EXPECTED, 0)
READ_ONLY, COPIED = 1, 2
METAL = 8


def refused(x: Any, error: type[BaseException], message: str, **arguments: Any) -> None:
    """As `x`, which is then not held any more; nothing is written."""
    out = np.full((2, 3), 7, np.float32)
    before = sys.getrefcount(x)
    with pytest.raises(error, match=message):
        ops.leaky_relu(x, 0.5, **{"out": out, **arguments})
    if sys.getrefcount(x) != before:
        gc.collect()  # what methods raised has their frames, and these their array
    assert sys.getrefcount(x) == before
    assert (out == 7).all()


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("strides", [(3, 1), None])
def test_what_is_right_is_taken_and_released_once(versioned: bool, strides: Any) -> None:
    x = Producer(versioned=versioned, strides=strides)
    before = sys.getrefcount(x)
    for calls in range(1, 4):
        result = ops.leaky_relu(x, 0.5, out=np.empty((2, 3), np.float32))
        np.testing.assert_array_equal(result, EXPECTED)
        assert x.released == calls * [x.address]
    assert sys.getrefcount(x) == before


FLOATS = "be float32, float64, float16 or bfloat16. Received: DLPack type code"
MISTAKEN = {
    "lanes": ({"lanes": 4}, TypeError, f"{FLOATS} 2 of 32 bits, 4 lanes"),
    "bits": ({"bits": 7}, TypeError, f"{FLOATS} 2 of 7 bits, 1 lanes"),
    "code": ({"code": 200}, TypeError, f"{FLOATS} 200 of 32 bits"),
    "no axes": ({"ndim": -1}, ValueError, r"have from 0 to 64 axes. Received: ndim=-1$"),
    "many axes": ({"ndim": 65}, ValueError, r"have from 0 to 64 axes. Received: ndim=65$"),
    "endless": ({"ndim": 2**31 - 1}, ValueError, r"have from 0 to 64 axes"),
    "no shape": ({"shape": None}, ValueError, "have a length for each axis. .* shape=NULL"),
    "negative": (
        {"shape": (2, -3)},
        ValueError,
        r"have lengths that are not negative. .*\(2, -3\)",
    ),
    "large": ({"shape": (2**40, 2**40)}, ValueError, r"have fewer than 2\^63 bytes"),
    "empty, large": ({"shape": (0, 2**62)}, ValueError, r"have fewer than 2\^63 bytes"),
    "no memory": ({"data": None}, TypeError, "have memory of its own. .*type=Producer"),
    "offset": (
        {"byte_offset": 2**64 - 8},
        ValueError,
        "begin at an address. .*=18446744073709551608",
    ),
    "gaps": ({"strides": (6, 2)}, ValueError, r"be dense in memory .*strides=\(6, 2\)"),
    "backwards": ({"strides": (-3, -1)}, ValueError, r"be dense in memory .*strides=\(-3, -1\)"),
    "repeated": ({"strides": (0, 1)}, ValueError, r"be dense in memory .*strides=\(0, 1\)"),
    "far": ({"strides": (2**62, 2**62)}, ValueError, r"be dense in memory .*strides="),
    "device": ({"device_type": METAL}, ValueError, r"be in the memory .* DLPack device \(8, 0\)"),
    "no device": ({"device_type": -1}, ValueError, r"be in the memory .* DLPack device \(-1, 0\)"),
}


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("kind", MISTAKEN)
def test_descriptions_that_do_not_hold_together(kind: str, versioned: bool) -> None:
    change, error, message = MISTAKEN[kind]
    x = Producer(versioned=versioned, **change)
    refused(x, error, f"`x` must {message}")
    assert x.released == [x.address]
    # As an item of a list, after one that is right.
    first = Producer()
    with pytest.raises(error, match=r"`arrays\[1\]` must "):
        ops.global_norm([first, x])
    assert (first.released, x.released) == ([first.address], 2 * [x.address])


def test_versions_of_the_future() -> None:
    x = Producer(major=2, ndim=-7, shape=None)  # laid out as nobody knows yet
    refused(x, TypeError, "`x` must speak version 1 of DLPack. Received: version 2")
    assert x.released == [x.address]


@pytest.mark.parametrize("options", [{"flags": READ_ONLY}, {"flags": COPIED}, {"versioned": False}])
def test_what_may_not_be_written_or_is_lost(options: dict[str, Any]) -> None:
    out = Producer(**options)
    refused(GIVEN, ValueError, "`out` must be writable. Received: a read-only array", out=out)
    np.testing.assert_array_equal(out.memory, GIVEN)
    assert out.released == [out.address]
    written = Producer()
    ops.leaky_relu(GIVEN, 0.5, out=written)
    np.testing.assert_array_equal(written.memory, EXPECTED)


def test_capsules_that_are_used_or_of_another_name() -> None:
    x = Producer()
    capsule = x.__dlpack__()
    x.__class__ = type("Giving", (Producer,), {"__dlpack__": lambda self, **_: capsule})
    ops.leaky_relu(x, 0.5, out=np.empty((2, 3), np.float32))
    message = "`x` must give a new capsule of DLPack from `__dlpack__`. Received: type=PyCapsule"
    refused(x, TypeError, message)
    assert x.released == [x.address]
    for name in (b"used_dltensor", b"dltensor_", b"", b"dlpack_exchange_api"):
        other = Producer(name=name or b"\0")
        refused(other, TypeError, message)
        assert other.released == []  # its capsule still owns it


class Raising:
    """Raises where it is asked."""

    def __init__(self, error: type[BaseException], where: str) -> None:
        self.error, self.where = error, where

    def _asked(self, where: str) -> Any:
        if where == self.where:
            raise self.error(where)
        return {"device": (1, 0)}[where]

    def __dlpack__(self, **_: Any) -> Any:
        return self._asked("capsule")

    def __dlpack_device__(self) -> Any:
        return self._asked("device")

    def is_deleted(self) -> Any:
        return self.error("deleted") if self.where == "deleted" else False


class UndecidedError(Exception):
    def __bool__(self) -> bool:
        raise self


@pytest.mark.parametrize("where", ["capsule", "device", "deleted"])
def test_what_methods_raise(where: str) -> None:
    message = f"`x` must be an array that DLPack can share. Received: type=Raising, .*: {where}$"
    refused(Raising(UndecidedError, where), RuntimeError, message)
    if where != "deleted":
        refused(Raising(TypeError, where), TypeError, message)
        refused(Raising(BufferError, where), BufferError, message)
        refused(Raising(KeyboardInterrupt, where), KeyboardInterrupt, where)


@pytest.mark.parametrize("device", [None, 1, (1,), (1, 0, 0), ("cpu", 0), (1.0, 0), (2**40, 0), {}])
def test_devices_that_are_no_pair_of_numbers(device: Any) -> None:
    x = Producer(device=device)
    message = r"`x\.__dlpack_device__\(\)` must be a pair of integers. Received: "
    refused(x, TypeError, message)
    assert x.released == []


@pytest.mark.parametrize("capsule", [None, 3, b"dltensor", GIVEN])
def test_what_is_no_capsule(capsule: Any) -> None:
    x = Producer()
    x.__class__ = type("Giving", (Producer,), {"__dlpack__": lambda self, **_: capsule})
    refused(x, TypeError, "`x` must give a new capsule of DLPack from `__dlpack__`")


def test_interfaces_of_other_kinds() -> None:
    """NumPy's is no array's own word that it may be used; CUDA's is not read without a GPU."""

    class Interface:
        __array_interface__ = GIVEN.__array_interface__

    refused(Interface(), TypeError, "`x` must be an array of NumPy, .* Received: type=Interface")


def test_modules_that_have_no_name() -> None:
    x = Producer(versioned=False)
    x.__class__ = type("Nameless", (Producer,), {"__module__": 7})
    refused(GIVEN, ValueError, "`out` must be writable", out=x)
    assert x.released == [x.address]
