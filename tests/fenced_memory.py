"""Memory whose blocks end where nobody may read, and that knows what was changed in it."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

#: What a block may have at most.
ROOM = 2 * mmap.PAGESIZE


class FencedMemory:
    """Blocks for the arguments of one call after the other.

    Each lies at the end of pages of its own, before one that kills the process which reads or
    writes there. What is left of a block's pages has bytes of its own, too, so that writing before
    the block shows.
    """

    def __init__(self, blocks: int) -> None:
        self._step = ROOM + mmap.PAGESIZE
        self._pages = mmap.mmap(-1, blocks * self._step)
        self._bytes = np.frombuffer(self._pages, np.uint8).reshape(blocks, self._step)
        self._address = self._bytes.ctypes.data
        protect = ctypes.CDLL(None).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for block in range(blocks):
            assert protect(self._address + block * self._step + ROOM, mmap.PAGESIZE, 0) == 0
        self._room = self._bytes[:, :ROOM]
        self._filling = np.random.default_rng(0).integers(0, 256, ROOM, np.uint8)
        self._used = 0
        self._before = self._room[:0].copy()

    def clear(self) -> None:
        """All blocks are free again."""
        self._used = 0

    def block(self, content: bytes, gap: int = 0) -> int:
        """The address of a new block that holds `content` and ends `gap` bytes before the fence."""
        row = self._room[self._used]
        row[:] = self._filling
        end = ROOM - gap
        row[end - len(content) : end] = np.frombuffer(content, np.uint8)
        self._used += 1
        return self._address + (self._used - 1) * self._step + end - len(content)

    def remember(self) -> None:
        """What is in the memory now is what it is compared with."""
        self._before = self._room[: self._used].copy()

    def changed_outside(self, ranges: list[tuple[int, int]]) -> int:
        """How many bytes differ from those remembered, beside these (address, length)."""
        changed = self._room[: len(self._before)] != self._before
        if changed.any():
            for address, length in ranges:
                block, at = divmod(address - self._address, self._step)
                if 0 <= block < len(changed):
                    changed[block, at : at + length] = False
        return int(changed.sum())
