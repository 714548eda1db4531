"""Any call of the C API succeeds or is refused by a message, and changes nothing that is not its.

Thousands of calls whose arguments are drawn at random (`random_calls.py`), always the same. Arrays,
structs and places for results lie before pages that end the process if they are read or written.
"""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

import fusednn
from loaded_library import loaded_library
from random_calls import MAKERS, RandomCalls, functions

CALLS = 200
FUNCTIONS = functions()
#: What is called back would have to be a random program, too. Other tests have these.
CALLING_BACK = {"fnn_follow_num_threads", "fnn_run_jobs", "fnn_run_tasks"}
STATUSES = {1, 2, 3, 6}  # a defect of the library (5) or no memory (4) would be an error here
SCALARS = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
    "const char*": ctypes.c_char_p,
}


def test_every_type_of_parameter_is_made() -> None:
    of_types = {
        kind
        for name, (_, parameters) in FUNCTIONS.items()
        for kind, _ in parameters
        if name not in CALLING_BACK
    }
    assert len(FUNCTIONS) > 45
    assert of_types == set(MAKERS)


def bound(library: ctypes.CDLL, name: str) -> Any:
    result, parameters = FUNCTIONS[name]
    function = getattr(library, name)
    function.restype = {"const char*": ctypes.c_char_p, "void": None}.get(result, ctypes.c_int32)
    function.argtypes = [SCALARS.get(kind, ctypes.c_void_p) for kind, _ in parameters]
    return function


@pytest.fixture
def unchanged_settings() -> Any:
    threads = fusednn.get_num_threads()
    yield
    library = loaded_library()
    assert library.fnn_context_use(None) == library.fnn_cuda_set(None) == 0
    fusednn.set_num_threads(threads)


@pytest.mark.usefixtures("unchanged_settings")
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - CALLING_BACK))
def test_random_calls(name: str) -> None:
    library = loaded_library()
    library.fnn_last_error.restype = ctypes.c_char_p
    calls = RandomCalls(library, name)
    result, parameters = FUNCTIONS[name]
    function = bound(library, name)
    for number in range(CALLS if parameters else 1):
        calls.begin()
        arguments = calls.arguments(name, parameters)
        calls.memory.remember()
        status = function(*arguments)
        failed = result == "fnn_status" and status != 0
        where = f"call {number}: {library.fnn_last_error()!r}"
        assert calls.memory.changed_outside([] if failed else calls.writable) == 0, where
        if failed:
            assert status in STATUSES, where
            assert b"Received: " in library.fnn_last_error() or status == 6, where
        calls.end()
