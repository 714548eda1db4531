"""Elements made by a thread of their own, a few ahead of who takes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any


class _End:
    """Nothing follows, or what stopped the thread."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetched(make: Callable[[], Iterator[Any]], count: int) -> Iterator[Any]:
    """Yield what ``make()`` yields; a thread is up to `count` elements ahead.

    The thread starts with the first element that is asked for. It ends with the last one, or when
    this generator is closed; what it raises is raised here, after the elements before.
    """
    free = threading.Semaphore(count)
    ready: SimpleQueue[Any] = SimpleQueue()
    closed = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        elements: Iterator[Any] | None = None
        try:
            elements = make()
            while True:
                free.acquire()
                if closed.is_set():
                    break
                try:
                    element = next(elements)
                except StopIteration:
                    break
                ready.put(element)
        except BaseException as raised:  # raised again, by who waits
            error = raised
        finally:
            if elements is not None and hasattr(elements, "close"):
                elements.close()
            ready.put(_End(error))

    thread = threading.Thread(target=work, name="fusednn prefetch", daemon=True)
    thread.start()
    try:
        while True:
            element = ready.get()
            if isinstance(element, _End):
                if element.error is not None:
                    raise element.error
                return
            free.release()
            yield element
    finally:
        closed.set()
        free.release()
        thread.join()
