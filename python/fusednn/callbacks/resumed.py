"""Where a `fit` goes on that another process began."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Resumed(NamedTuple):
    """What a callback tells `fit` at its start, by setting the model's `resumed`."""

    #: The epoch to go on with, from 0.
    epoch: int
    #: How many of its batches are done.
    batch: int
    #: What `Feed.place` returned.
    place: dict[str, Any]
    #: Whether training was to stop.
    stopped: bool
    #: Sets weights, states and generators, after the data were brought to their place.
    restore: Callable[[], None]
