"""In which order a data set's elements come: streams of blocks of names.

A block is an array of one axis that names elements: the numbers of rows, or Python objects. What
reorders elements moves names alone, and is the same for rows of arrays and for all else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Block = np.ndarray[Any, np.dtype[Any]]

#: Rows are named so many at a time: little memory, few calls.
BLOCK = 8192


def numbered(count: int) -> Iterator[Block]:
    """Yield 0, 1, ..., count - 1."""
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))


def single(name: object) -> Block:
    """Return a block of one Python object."""
    block = np.empty(1, object)
    block[0] = name
    return block


def taken(blocks: Iterator[Block], count: int) -> Iterator[Block]:
    """Yield the first `count` names; no block is asked for beyond them."""
    left = count
    while left > 0:
        block = next(blocks, None)
        if block is None:
            return
        yield block[:left]
        left -= len(block)


def skipped(blocks: Iterator[Block], count: int) -> Iterator[Block]:
    """Yield all but the first `count` names."""
    for block in blocks:
        if count < len(block):
            yield block[count:]
        count = max(count - len(block), 0)


def grouped(blocks: Iterator[Block], size: int, *, drop_remainder: bool) -> Iterator[Block]:
    """Yield blocks of `size` names, the last one perhaps smaller."""
    parts: list[Block] = []
    held = 0
    for block in blocks:
        rest = block
        while held + len(rest) >= size:
            parts.append(rest[: size - held])
            rest = rest[size - held :]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)
            parts, held = [], 0
        if len(rest):
            parts.append(rest)
            held += len(rest)
    if held and not drop_remainder:
        yield np.concatenate(parts)


def shuffled(
    blocks: Iterator[Block], buffer_size: int | None, random: np.random.Generator
) -> Iterator[Block]:
    """Yield the names at random, each from a buffer of the next `buffer_size`; None: from all."""
    held: list[Block] = []
    count = 0
    while buffer_size is None or count < buffer_size:
        block = next(blocks, None)
        if block is None:
            break
        held.append(block)
        count += len(block)
    if not held:
        return
    buffer = np.concatenate(held)
    if buffer_size is not None:
        blocks = _before(buffer[buffer_size:], blocks)
        buffer = buffer[:buffer_size].copy()
        # What is drawn makes room for the next names. They may be drawn from the next piece on.
        for piece in _pieces(blocks, max(len(buffer) // 4, 1)):
            many = len(piece) > 1
            places = (
                random.choice(len(buffer), len(piece), replace=False)
                if many
                else random.integers(len(buffer), size=1)
            )
            drawn = buffer[places]
            buffer[places] = piece
            yield drawn
    random.shuffle(buffer)
    for start in range(0, len(buffer), BLOCK):
        yield buffer[start : start + BLOCK]


def _before(first: Block, blocks: Iterator[Block]) -> Iterator[Block]:
    if len(first):
        yield first
    yield from blocks


def _pieces(blocks: Iterator[Block], size: int) -> Iterator[Block]:
    for block in blocks:
        for start in range(0, len(block), size):
            yield block[start : start + size]
