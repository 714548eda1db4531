"""Numbers as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration with three digits: ``4.71 us``."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def times(ratio: float) -> str:
    """Return a ratio: ``3.4 x``."""
    return f"{_digits(ratio)} x"


def threads(count: int) -> str:
    """Return a number of threads: ``2 threads``."""
    return "1 thread" if count == 1 else f"{count} threads"


def size(count: float) -> str:
    """Return a number of bytes: ``1.5 MiB``."""
    for limit, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f} B"
