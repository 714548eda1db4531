"""A limit on the elements of all weights that are made, for models read from files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: How many elements of weights may still be created; None: any number.
_elements_left: ContextVar[int | None] = ContextVar("elements_left", default=None)


@contextmanager
def limited_elements(count: int) -> Iterator[None]:
    """Refuse weights of more than `count` elements in all: a file that claims them lies."""
    token = _elements_left.set(count)
    try:
        yield
    finally:
        _elements_left.reset(token)


def take_elements(count: int) -> None:
    """Count new weights; raise ValueError where they are more than are left."""
    left = _elements_left.get()
    if left is None:
        return
    if count > left:
        raise ValueError(
            f"The model must not need more weights than the file holds. Received: {count} elements "
            f"more, where {left} are left"
        )
    _elements_left.set(left - count)
