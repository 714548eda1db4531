"""What memory can do: passes over working sets that lie in L2, in L3 and in memory."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fusednn.benchmarks.case import Stream
from fusednn.benchmarks.contender import Contender

#: Arrays read, updated in place and written, and whether past the caches.
PASSES: dict[str, tuple[int, int, int, bool]] = {
    "read": (1, 0, 0, False),
    "copy": (1, 0, 1, False),
    "copy, non-temporal": (1, 0, 1, True),
    "2R + 1W": (2, 0, 1, False),
    "2R + 1W, non-temporal": (2, 0, 1, True),
    "update in place": (0, 1, 0, False),
    "update 2 of 3 in place": (1, 2, 0, False),
    "update 3 of 4 in place (Adam)": (1, 3, 0, False),
}
LEVELS = ("L2", "L3", "memory")


def working_sets(caches: dict[str, int]) -> dict[str, int]:
    """Return the bytes of a working set well inside each level, or well beyond the last."""
    return {
        "L2": caches["L2"] // 2,
        "L3": max(caches["L3"] // 4, 2 * caches["L2"]),
        "memory": max(8 * caches["L3"], 1 << 28),
    }


def stream_of(pass_name: str, size: int) -> Stream:
    """Return the pass over arrays of `size` bytes together."""
    inputs, updated, outputs, _ = PASSES[pass_name]
    return Stream(inputs, updated, outputs, size // (inputs + updated + outputs))


def build(pass_name: str, size: int) -> Contender:
    """Return a contender that makes the pass."""
    roof: Any = import_module("fusednn.benchmarks.peers.roof")
    call = roof.stream_call(stream_of(pass_name, size), non_temporal=PASSES[pass_name][3])
    return Contender(call, dict, reuses=True, checked=False)
