"""Results as plain text: a block per case, a line per contender."""

from __future__ import annotations

from collections.abc import Iterator

from fusednn.benchmarks.results import CaseResult, Timing
from fusednn.benchmarks.units import duration, threads, times

HEADER = f"{'':22}{'time':>10} {'+-':>5} {'GB/s':>7} {'of roof':>8} {'fusednn is':>11}  output"


def case_lines(case: CaseResult) -> Iterator[str]:
    """Yield the lines of a case.

    "of roof" is the roof's time divided by the contender's, marked "!" where it is above 1 by more
    than the noise; "fusednn is" how many times as fast fusednn is as the contender; a "+-" above
    10 % is marked "?". Where other programs took a good part of a CPU, the first line says so.
    """
    disturbed = f", {case.disturbed} disturbed rounds not counted" if case.disturbed else ""
    busy = f", OTHER PROGRAMS TOOK {case.others:.1f} CPUs" if case.busy else ""
    yield f"{case.name}, {threads(case.threads)}{disturbed}{busy}"
    for name, timing in case.contenders.items():
        if timing.status != "absent":
            yield f"  {name:20}" + _columns(case, name, timing)
    reasons: dict[str, list[str]] = {}
    for name, timing in case.contenders.items():
        # A form of our own is absent where it would be the same as fusednn.
        if timing.status == "absent" and not name.startswith("fusednn-"):
            reasons.setdefault(timing.reason, []).append(name)
    for reason, names in reasons.items():
        yield f"  absent: {', '.join(names)}: {reason}"


def _columns(case: CaseResult, name: str, timing: Timing) -> str:
    if not timing.timed:
        return f"{timing.status}: {timing.reason}" if timing.reason else timing.status
    roof, ours = case.roof, case.ours
    rate = f"{case.traffic / timing.seconds / 1e9:.1f}" if case.traffic else ""
    above = "!" if name in dict(case.above_roof()) else ""
    fraction = f"{roof.seconds / timing.seconds:.2f}{above}" if roof else ""
    doubt = "?" if timing.uncertain else ""
    ratio = times(timing.seconds / ours.seconds) if ours else ""
    spread = f"{timing.spread / 2:.0%}{doubt}"
    output = "reused" if timing.reuses else "fresh"
    return (
        f"{duration(timing.seconds):>10} {spread:>5} {rate:>7} {fraction:>8} "
        f"{ratio:>11}  {output}" + (f"; {timing.note}" if timing.note else "")
    )
