"""The roof: passes over memory with a case's traffic, by the library's own threads."""

from __future__ import annotations

from functools import partial
from typing import Any

from fusednn import _core
from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case, Stream
from fusednn.benchmarks.contender import Contender
from fusednn.benchmarks.inputs import UnavailableError

#: Passes take whole groups of floats.
_MULTIPLE = 64
#: Bytes. Arrays that start at the same place of a page hinder each other in the caches, by up to
#: 1.7 times; the roof is what memory can do, so its arrays start seven lines apart.
_STAGGER = 448


def stream_call(stream: Stream, *, non_temporal: bool) -> partial[None]:
    """Return a call that makes the pass, over arrays of its own."""
    count = max(-(-stream.size // (4 * _MULTIPLE)), 1) * _MULTIPLE
    needed = stream.inputs + stream.updated + stream.outputs
    arrays = inputs.ones(count, needed, _STAGGER)
    read, updated = arrays[: stream.inputs], arrays[stream.inputs :]
    output = updated.pop() if stream.outputs else None
    return partial(_core.stream, read, updated, output, non_temporal)


def build_roof(case: Case, name: str) -> Contender:
    """Return the passes of a case; "roof-non-temporal" writes outputs past the caches."""
    non_temporal = name == "roof-non-temporal"
    if non_temporal and not any(stream.outputs for stream in case.streams):
        raise UnavailableError("nothing is written that was not read")
    calls = [stream_call(stream, non_temporal=non_temporal) for stream in case.streams]

    def run() -> None:
        for call in calls:
            call()

    only: Any = calls[0] if len(calls) == 1 else run
    return Contender(only, dict, reuses=True, checked=False)
