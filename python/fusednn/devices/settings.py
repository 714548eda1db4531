"""What calls on NVIDIA GPUs may use: multiprocessors, and memory for workspaces."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, cast

from fusednn import _core

#: What allocates (bytes, device, stream) and what releases (pointer, bytes, device, stream).
_Functions = tuple[Callable[[int, int, int], int], Callable[[int, int, int, int], object]]
#: As `_core` reads it: spare multiprocessors, and the functions for a type of arrays, if any.
_Chosen = tuple[int, Callable[[type], _Functions | None] | None]

_variable = cast("ContextVar[_Chosen | None]", _core.cuda_settings_variable())


class Allocator(Protocol):
    """Lends device memory; streams are CUDA's handles as numbers."""

    def allocate(self, bytes: int, device: int, stream: int) -> int:
        """Return the address of as much memory, aligned to 256 bytes, for work on `stream`."""

    def release(self, pointer: int, bytes: int, device: int, stream: int) -> None:
        """Take it back; work that uses it may still be ahead on `stream`."""


class _Setting:
    """What `cuda_settings` returns: it puts the settings of before back at its end."""

    def __init__(self, before: _Chosen | None) -> None:
        self._before = before

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        _variable.set(self._before)


def cuda_settings(
    *, spare_multiprocessors: int | None = None, workspace: str | Allocator | None = None
) -> _Setting:
    """Choose what calls on NVIDIA GPUs may use, from now on or within a ``with`` block.

    Results do not depend on it: neither setting changes a bit.

    Parameters
    ----------
    spare_multiprocessors : int, optional
        As many multiprocessors are left to others, such as NCCL's kernels, by BatchNorm's kernels
        whose blocks wait for one another; one is used in any case. The default is 0. Other kernels
        do not wait, and make room as their blocks end.
    workspace : {"library", "package"} or object, optional
        Where BatchNorm's workspaces come from. "library", the default: memory that the library
        keeps by stream from call to call, which costs nothing after the first (see
        `release_cuda_memory`). "package": the allocator of the arrays' package, PyTorch's caching
        allocator or CuPy's current one, so that the memory serves the rest of the program, too, for
        some microseconds of Python in each call; arrays of other packages get the library's.
        An object lends its own by two methods: ``allocate(bytes, device, stream)`` returns an
        address that is a multiple of 256, ``release(pointer, bytes, device, stream)`` takes it back
        as soon as the work is enqueued. They are called within the call, and must not call this
        package.

    Returns
    -------
    context manager
        It has chosen already; leaving its ``with`` block puts the settings of before back.

    Raises
    ------
    TypeError, ValueError
        An argument is none of these. Nothing is changed then.

    Notes
    -----
    None leaves a setting as it is. The settings are those of the current thread (a context
    variable), as with `fusednn.device`. No GPU is needed to choose them.

    An allocation that fails is a MemoryError of the call, whose ``__cause__`` is the allocator's
    exception. An optimizer's tables, a few hundred bytes for each array, are the library's always:
    they stay from step to step.

    PyTorch has no setting for multiprocessors; its counterpart of the rest is
    ``torch.cuda.memory.change_current_allocator``. Keras has neither.

    Examples
    --------
    >>> import fusednn
    >>> with fusednn.cuda_settings(spare_multiprocessors=8, workspace="package"):
    ...     pass  # calls beside a collective
    """
    before = _variable.get()
    spare, allocator_of = before or (0, None)
    if spare_multiprocessors is not None:
        spare = _checked_count(spare_multiprocessors)
    if workspace is not None:
        allocator_of = _checked_workspace(workspace)
    _variable.set((spare, allocator_of))
    return _Setting(before)


def release_cuda_memory() -> int:
    """Free the GPU memory that the library keeps for later calls, on all devices.

    Workspaces and the tables of optimizers' lists that are gone are kept by stream, so that no call
    but the first of its size allocates: at most 256 blocks, the oldest of which go first. Memory of
    lists that recent steps have used, and of CUDA graphs that live, stays.

    Returns
    -------
    int
        How many bytes were freed: 0 where the library has computed nothing on a GPU.

    Raises
    ------
    RuntimeError
        CUDA refuses, as it does while a graph is captured. What was not freed is kept.

    Notes
    -----
    It waits for the devices. PyTorch's counterpart is ``torch.cuda.empty_cache``.

    Examples
    --------
    >>> import fusednn
    >>> fusednn.release_cuda_memory()
    0
    """
    return _core.cuda_release_memory()


def _checked_count(value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            "`spare_multiprocessors` must be an integer. "
            f"Received: spare_multiprocessors={value!r} of type {type(value).__name__}"
        ) from None
    if not 0 <= count < 1 << 31:
        raise ValueError(
            "`spare_multiprocessors` must be from 0 to 2147483647. "
            f"Received: spare_multiprocessors={value!r}"
        )
    return count


def _checked_workspace(value: Any) -> Callable[[type], _Functions | None] | None:
    if isinstance(value, str):
        if value not in {"library", "package"}:
            raise ValueError(
                "`workspace` must be 'library', 'package', or an object with the methods "
                f"`allocate` and `release`. Received: workspace={value!r}"
            )
        return _of_package if value == "package" else None
    functions = tuple(getattr(value, name, None) for name in ("allocate", "release"))
    if not all(map(callable, functions)):
        raise TypeError(
            "`workspace` must be 'library', 'package', or an object with the methods "
            f"`allocate` and `release`. Received: workspace={value!r}"
        )
    of_object = cast("_Functions", functions)
    return lambda _: of_object


def _of_package(kind: type) -> _Functions | None:
    """Return the functions of the package that a type of arrays is of, where it lends memory."""
    for base in kind.__mro__:
        package = base.__module__.partition(".")[0]
        if package in _PACKAGES:
            return _PACKAGES[package]
    return None


def _allocate_by_torch(bytes_: int, device: int, stream: int) -> int:
    import torch

    return int(torch.cuda.caching_allocator_alloc(bytes_, device, stream))


def _release_by_torch(pointer: int, *_: int) -> None:
    import torch

    torch.cuda.caching_allocator_delete(pointer)


#: CuPy takes memory back when nothing refers to it any more.
_lent_by_cupy: dict[int, Any] = {}


def _allocate_by_cupy(bytes_: int, device: int, stream: int) -> int:
    import cupy

    # Of its current stream, which the call is enqueued on.
    with cupy.cuda.Device(device):
        memory = cupy.cuda.alloc(bytes_)
    pointer = int(memory.ptr)
    _lent_by_cupy[pointer] = memory
    return pointer


def _release_by_cupy(pointer: int, *_: int) -> None:
    del _lent_by_cupy[pointer]


_PACKAGES: dict[str, _Functions] = {
    "torch": (_allocate_by_torch, _release_by_torch),
    "cupy": (_allocate_by_cupy, _release_by_cupy),
}
