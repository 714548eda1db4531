"""The argument `axis` of losses over the last axis."""

from __future__ import annotations


def check_axis(axis: int) -> int:
    """Return `axis` where it is -1, the only one that is supported."""
    if axis != -1:
        raise ValueError(f"`axis` must be -1, the last one. Received: axis={axis}")
    return axis
