"""NumPy's matrix products on the threads of fusednn's kernels."""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fusednn import _core, openblas

_lock = threading.Lock()
#: What is shared now; None: nothing.
_shared: _OpenBLAS | None = None


def share_blas_threads(enable: bool = True) -> bool:
    """Let NumPy's matrix products run on the kernels' threads, instead of on threads of their own.

    OpenBLAS, which NumPy's wheels bring, keeps threads that spin for a while after each product,
    on the cores that the next kernel wants, while the kernels' threads sleep and have to be woken.
    With one set of threads for both, a training step of a small network took 6 to 15 % less time on
    two cores in one run, 27 % less to 2 % more in a noisier one. NumPy's own products are the same
    to the last bit; large ones of a model's layers are cut otherwise and may differ in it, as they
    do with the number of threads.

    Parameters
    ----------
    enable : bool
        False puts back what was before. Saying the same twice does nothing.

    Returns
    -------
    bool
        Whether the threads are shared now.

    Warns
    -----
    RuntimeWarning
        If they cannot be: NumPy has another BLAS (such as MKL, Accelerate or BLIS), an OpenBLAS
        before 0.3.28, or one that was built for OpenMP or without threads. The reason is named, and
        nothing was changed.

    Notes
    -----
    For the whole process. The products then use as many threads as the kernels: `set_num_threads`
    and ``FUSEDNN_NUM_THREADS`` count, ``OPENBLAS_NUM_THREADS`` does not. False restores the number
    that OpenBLAS had.

    Large products of a model's layers are cut into blocks for the kernels' threads, each of which
    OpenBLAS computes on one thread, without waiting for the others. Meanwhile OpenBLAS has one
    thread, for NumPy's products in other Python threads, too. The parts of NumPy's products wait
    for each other, here as in OpenBLAS: where another process keeps one of the cores busy, a
    product takes as long as its slower part. For 20 ms after one of these products the
    kernels' threads spin up to 0.3 ms for the next one, not the 0.02 ms of `set_num_threads`: one
    that slept would not get its core back from that process for some milliseconds.

    Products of several Python threads take turns then. PyTorch and Keras have nothing like it:
    their products and kernels are on OpenMP's threads or a pool of their own from the start.

    Examples
    --------
    >>> import fusednn
    >>> fusednn.utils.share_blas_threads()
    True
    >>> fusednn.utils.share_blas_threads(False)
    False
    """
    global _shared
    with _lock:
        if bool(enable) == (_shared is not None):
            return bool(enable)
        if _shared is not None:
            _shared.release()
            _shared = None
            return False
        found = _find_openblas()
        if isinstance(found, str):
            warnings.warn(
                "NumPy's BLAS must be OpenBLAS 0.3.28 or later, built for threads of its own, to "
                f"share them. Received: {found}",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        found.take()
        _shared = found
        return True


def can_share_blas_threads() -> bool:
    """Return whether `share_blas_threads` can do so with this NumPy."""
    return not isinstance(_find_openblas(), str)


@contextmanager
def shared_blas_threads() -> Iterator[bool]:
    """Share inside the ``with`` block, where that can be; the value tells. Then as before."""
    before = _shared is not None
    now = can_share_blas_threads() and share_blas_threads()
    try:
        yield now
    finally:
        if now and not before:
            share_blas_threads(False)


@dataclass(frozen=True)
class _OpenBLAS:
    """The functions of the OpenBLAS that NumPy is linked to."""

    set_callback: Any
    set_num_threads: Any
    num_threads: int

    def take(self) -> None:
        self.set_callback(ctypes.c_void_p(_core.run_jobs_address()))
        # OpenBLAS' own function is told of changes, by C: whoever makes them, threadpoolctl too.
        address = ctypes.cast(self.set_num_threads, ctypes.c_void_p).value
        assert address is not None
        _core.share_products(address)
        _core.follow_num_threads(address)

    def release(self) -> None:
        _core.share_products(0)
        _core.follow_num_threads(0)
        self.set_callback(None)
        self.set_num_threads(self.num_threads)


def _find_openblas() -> _OpenBLAS | str:
    """Return NumPy's OpenBLAS, or what it has whose jobs cannot be run by others."""
    library = openblas.library()
    for prefix, suffix in openblas.SPELLINGS:
        names = [
            f"{prefix}openblas_{name}{suffix}"
            for name in (
                "set_threads_callback_function",
                "set_num_threads",
                "get_num_threads",
                "get_parallel",
            )
        ]
        if all(hasattr(library, name) for name in names):
            set_callback, set_num_threads, get_num_threads, get_parallel = (
                getattr(library, name) for name in names
            )
            parallel = get_parallel()
            if parallel != 1:
                return f"an OpenBLAS {'without threads' if parallel == 0 else 'for OpenMP'}"
            set_callback.argtypes = [ctypes.c_void_p]
            set_num_threads.argtypes = [ctypes.c_int]
            set_callback.restype = set_num_threads.restype = None
            return _OpenBLAS(set_callback, set_num_threads, get_num_threads())
    return openblas.description()
