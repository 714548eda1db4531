"""Option values: from text to numbers, or an error that says what the text must be."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable


def integer(minimum: int) -> Callable[[str], int]:
    """Return a parser of integers from `minimum` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise _refused(f"an integer of at least {minimum}", text)
        return value

    return parse


def number_between(
    low: float, high: float = math.inf, *, low_allowed: bool = False
) -> Callable[[str], float]:
    """Return a parser of numbers in (low, high), or [low, high)."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value < high or (low_allowed and value == low)):
            raise _refused(f"a number in {'[' if low_allowed else '('}{low:g}, {high:g})", text)
        return value

    return parse


def layer_widths(text: str) -> list[int]:
    """Parse ``300,100`` or ``20x100`` (twenty layers of a hundred) or a mixture of both."""
    widths: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(?:([1-9]\d{0,3})x)?([1-9]\d{0,6})", part.strip())
        if match is None:
            raise _refused("widths as 300,100 or 20x100", text)
        widths += [int(match[2])] * int(match[1] or 1)
    return widths


def column(text: str) -> str | int:
    """Parse a column's name, or its number from 1, which becomes a position from 0."""
    if not re.fullmatch(r"[+-]?\d+", text):
        return text
    if int(text) < 1:
        raise _refused("a name, or a number from 1", text)
    return int(text) - 1


def _refused(expected: str, text: str) -> ArgumentTypeError:
    return ArgumentTypeError(f"must be {expected}. Received: {text}")
