"""Contexts of the C API through ctypes: what a program may lend, and the calling thread's use."""

from __future__ import annotations

import ctypes

from loaded_library import loaded_library

TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
PARALLEL_FOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, TASK, ctypes.c_void_p)
ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class CudaSettings(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("stream", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("spare_multiprocessors", ctypes.c_int32),
    ]


class Settings(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("parallel_for", PARALLEL_FOR),
        ("parallel_context", ctypes.c_void_p),
        ("num_threads", ctypes.c_int32),
        ("allocate", ALLOCATE),
        ("release", RELEASE),
        ("memory_context", ctypes.c_void_p),
        ("cuda", ctypes.POINTER(CudaSettings)),
    ]


def library_with_contexts() -> ctypes.CDLL:
    found = loaded_library()
    found.fnn_last_error.restype = ctypes.c_char_p
    found.fnn_context_use.argtypes = [ctypes.c_void_p]
    found.fnn_context_destroy.argtypes = [ctypes.c_void_p]
    return found


def use_context(library: ctypes.CDLL, settings: Settings) -> ctypes.c_void_p:
    """Make a context, which the calling thread uses from now on."""
    context = ctypes.c_void_p()
    status = library.fnn_context_create(ctypes.byref(settings), ctypes.byref(context))
    assert status == 0, library.fnn_last_error()
    assert library.fnn_context_use(context) == 0, library.fnn_last_error()
    return context
