"""A contender: one way to do a case's work, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answer = Mapping[str, NDArray[Any]]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """One way to do a case's work.

    Attributes
    ----------
    run : callable
        Do the work once.
    answer : callable
        Called before anything is timed: do the work on the case's inputs, and return what
        `samples` keeps of the results.
    reuses : bool
        Whether results go into buffers that exist; else each run allocates them.
    before : callable, optional
        Called before each run, while the clock stands still; runs are then timed one by one.
    finish : callable
        Wait until runs are complete, where they return earlier.
    checked : bool
        Whether the answer can be compared.
    note : str
        What a reader must know.
    surroundings : callable
        Returns a context manager, in which the contender is warmed up and takes its turns.
    """

    run: Callable[[], object]
    answer: Callable[[], Answer]
    reuses: bool
    before: Callable[[], object] | None = None
    finish: Callable[[], object] = _nothing
    checked: bool = True
    note: str = ""
    surroundings: Callable[[], AbstractContextManager[object]] = nullcontext


def as_float64(array: Any) -> NDArray[np.float64]:
    """Convert a NumPy array, bfloat16 included."""
    return np.asarray(array).astype(np.float64)
