"""What a program lends the library through the C API's contexts: threads, memory, a stream."""

from __future__ import annotations

import ctypes
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fusednn import ops
from lent_context import (
    ALLOCATE,
    PARALLEL_FOR,
    RELEASE,
    CudaSettings,
    Settings,
    library_with_contexts,
    use_context,
)


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return library_with_contexts()


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """The calling thread's mode as some hosts set it, where this knows how."""
    if platform.machine() != "x86_64":
        yield
        return
    libm = ctypes.CDLL("libm.so.6")
    saved, flushing = (ctypes.create_string_buffer(64) for _ in range(2))
    libm.fegetenv(saved)
    libm.fegetenv(flushing)
    mode = ctypes.c_uint32.from_buffer(flushing, 28)  # mxcsr in glibc's fenv_t
    mode.value |= 0x8040
    libm.fesetenv(flushing)
    try:
        yield
    finally:
        libm.fesetenv(saved)


class Lender:
    """A program with threads and memory of its own."""

    def __init__(self, threads: int = 2) -> None:
        self.tasks = 0
        self.kept: dict[int, Any] = {}
        self.asked: list[tuple[int, int]] = []
        self.empty = False
        self.settings = Settings(ctypes.sizeof(Settings))
        self._threads = threads

    def lend_threads(self) -> Lender:
        self.settings.parallel_for = PARALLEL_FOR(self._run)
        self.settings.num_threads = self._threads
        return self

    def lend_memory(self) -> Lender:
        self.settings.allocate = ALLOCATE(self._allocate)
        self.settings.release = RELEASE(self._release)
        return self

    def _run(self, context: int | None, count: int, task: Callable[..., None], data: int) -> None:
        # Backwards, and every other task on another thread, of another floating-point mode.
        def elsewhere(index: int) -> None:
            with flushing_denormals():
                task(data, index)

        others = []
        for index in reversed(range(count)):
            if index % 2:
                others.append(threading.Thread(target=elsewhere, args=(index,)))
                others[-1].start()
            else:
                task(data, index)
        for other in others:
            other.join()
        self.tasks += count

    def _allocate(self, context: int | None, size: int, alignment: int) -> int | None:
        self.asked.append((size, alignment))
        if self.empty:
            return None
        memory = ctypes.create_string_buffer(size + alignment)
        address = -(-ctypes.addressof(memory) // alignment) * alignment
        self.kept[address] = memory
        return address

    def _release(self, context: int | None, memory: int, size: int) -> None:
        del self.kept[memory]


@pytest.fixture
def use(library: ctypes.CDLL) -> Iterator[Callable[[Lender], ctypes.c_void_p]]:
    """Makes a context of what a lender lends, and the calling thread use it."""
    made = []

    def make(lender: Lender) -> ctypes.c_void_p:
        made.append(use_context(library, lender.settings))
        return made[-1]

    yield make
    library.fnn_context_use(None)
    for context in made:
        library.fnn_context_destroy(context)


def normalised(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return ops.batch_norm_forward(x, None, None, negative_slope=0.1)


@pytest.mark.parametrize("shape", [(32, 32, 20, 20), (4000, 96), (8, 65536)])
def test_lent_threads_compute_the_same_bits(
    shape: tuple[int, ...], use: Callable[[Lender], ctypes.c_void_p]
) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = normalised(x)
    lender = Lender(threads=3).lend_threads()
    use(lender)
    for found, right in zip(normalised(x), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    assert lender.tasks > 1


def test_lent_threads_have_the_right_mode(use: Callable[[Lender], ctypes.c_void_p]) -> None:
    lender = Lender().lend_threads()
    use(lender)
    tiny = np.finfo(np.float32).smallest_subnormal
    x, halves = np.full(1 << 20, -4 * tiny), np.full(1 << 20, -2 * tiny)
    np.testing.assert_array_equal(ops.leaky_relu(x, 0.5).view(np.int32), halves.view(np.int32))
    assert lender.tasks > 1


def test_lent_memory_is_used_kept_and_given_back(
    use: Callable[[Lender], ctypes.c_void_p], library: ctypes.CDLL
) -> None:
    lender = Lender().lend_memory()
    context = use(lender)
    small, large = np.ones((64, 8), np.float32), np.ones((64, 40_000), np.float32)
    normalised(small)
    normalised(small)
    assert len(lender.asked) == 1
    assert lender.asked[0][1] == 64
    normalised(large)
    assert len(lender.asked) == 2
    assert len(lender.kept) == 1
    assert library.fnn_context_use(None) == 0
    normalised(large)
    assert len(lender.asked) == 2
    assert library.fnn_context_destroy(context) == 0
    assert not lender.kept
    context.value = None


def test_lent_threads_that_leave_tasks_undone_are_an_error(
    use: Callable[[Lender], ctypes.c_void_p],
) -> None:
    lender = Lender().lend_threads()
    lender.settings.parallel_for = PARALLEL_FOR(lambda context, count, task, data: task(data, 0))
    use(lender)
    message = "`parallel_for` must call each task once, wait .* Received: tasks that were not done"
    with pytest.raises(ValueError, match=message):
        normalised(np.ones((640, 3000), np.float32))


def test_no_memory_is_an_error_that_changes_nothing(
    use: Callable[[Lender], ctypes.c_void_p],
) -> None:
    lender = Lender().lend_memory()
    lender.empty = True
    use(lender)
    y = np.full((64, 8), 7, np.float32)
    with pytest.raises(MemoryError, match="out of memory for the workspace"):
        ops.batch_norm_forward(np.ones((64, 8), np.float32), None, None, out=y)
    np.testing.assert_array_equal(y, 7)


def test_a_context_serves_one_thread_at_a_time(
    use: Callable[[Lender], ctypes.c_void_p], library: ctypes.CDLL
) -> None:
    context = use(Lender().lend_memory())
    said: list[bytes] = []

    def elsewhere() -> None:
        for call in (library.fnn_context_use, library.fnn_context_destroy):
            said.append(library.fnn_last_error() if call(context) else b"")

    def run() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    run()
    assert (
        said
        == [b"`context` must serve one thread at a time. Received: one that another thread uses"]
        * 2
    )
    said.clear()
    assert library.fnn_context_use(None) == 0

    def take() -> None:
        # join returns when Python is done with a thread, which the system may end a little later.
        late = time.monotonic() + 10
        while library.fnn_context_use(context) != 0:
            if time.monotonic() > late:
                said.append(library.fnn_last_error())
                return
            time.sleep(0.001)
        said.append(b"")

    # A thread that ends leaves the context to the next one.
    for _ in range(2):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert said == [b"", b""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 8}, "`settings`.size must be 64 for this version"),
        (
            {"num_threads": 2},
            "`num_threads` must be 0 without `parallel_for`. Received: num_threads=2",
        ),
        (
            {"parallel_for": PARALLEL_FOR(lambda *_: None)},
            "`num_threads` must be from 1 to 4096 with `parallel_for`. Received: num_threads=0",
        ),
        (
            {"allocate": ALLOCATE(lambda *_: None)},
            "`allocate` and `release` must be given together. Received: only `allocate`",
        ),
        (
            {
                "cuda": ctypes.pointer(
                    CudaSettings(ctypes.sizeof(CudaSettings), None, None, None, None, -1)
                )
            },
            "`spare_multiprocessors` must not be negative",
        ),
    ],
)
def test_refusals(change: dict[str, Any], message: str, library: ctypes.CDLL) -> None:
    settings = Settings(ctypes.sizeof(Settings))
    for name, value in change.items():
        setattr(settings, name, value)
    context = ctypes.c_void_p()
    assert library.fnn_context_create(ctypes.byref(settings), ctypes.byref(context)) == 2
    assert message in library.fnn_last_error().decode()
    assert context.value is None
