"""Which cases became slower from one run to another, beyond what the noise explains."""

from __future__ import annotations

from dataclasses import dataclass

from fusednn.benchmarks.results import CaseResult, Results
from fusednn.benchmarks.units import duration

#: Runs on one machine differ by this much where nothing changed.
_FLOOR = 0.15


@dataclass(frozen=True)
class Change:
    """One case in two runs.

    Attributes
    ----------
    time, relative : float
        New time by old time: of fusednn, and of fusednn divided by the roof.
    noise : float
        What either may differ from 1 without meaning anything.
    """

    name: str
    threads: int
    old: float
    new: float
    time: float
    relative: float
    noise: float

    @property
    def slower(self) -> bool:
        """Whether the time grew, beside the roof too: the machine alone is not the cause."""
        return min(self.time, self.relative) > 1 + self.noise

    @property
    def faster(self) -> bool:
        """Whether the time fell, and fell beside the roof."""
        return max(self.time, self.relative) < 1 / (1 + self.noise)


def changes(old: Results, new: Results) -> list[Change]:
    """Return the cases that both runs timed."""
    before = {(case.name, case.threads): case for case in old.cases}
    found = []
    for case in new.cases:
        earlier = before.get((case.name, case.threads))
        change = None if earlier is None else _change(earlier, case)
        if change is not None:
            found.append(change)
    return found


def _change(old: CaseResult, new: CaseResult) -> Change | None:
    ours, roofs = (old.ours, new.ours), (old.roof, new.roof)
    if ours[0] is None or ours[1] is None:
        return None
    time = ours[1].seconds / ours[0].seconds
    relative = time
    if roofs[0] is not None and roofs[1] is not None:
        relative = time * roofs[0].seconds / roofs[1].seconds
    noise = _FLOOR + ours[0].spread / 2 + ours[1].spread / 2
    return Change(new.name, new.threads, ours[0].seconds, ours[1].seconds, time, relative, noise)


def compare_lines(old: Results, new: Results) -> tuple[list[str], int]:
    """Return a report and the number of regressions.

    Raises
    ------
    ValueError
        If the runs have no case in common.
    """
    found = changes(old, new)
    if not found:
        raise ValueError("the two runs have no case in common that both timed")
    lines = []
    if old.machine != new.machine:
        lines.append("The machines differ: only the ratios to the roof mean something.")
    slower = sorted((c for c in found if c.slower), key=lambda c: -c.relative)
    faster = sorted((c for c in found if c.faster), key=lambda c: c.relative)
    for title, chosen in (("slower", slower), ("faster", faster)):
        lines += [f"{title}: {len(chosen)} of {len(found)} cases"]
        lines += [
            f"  {c.name}, {c.threads} threads: {duration(c.old)} -> {duration(c.new)}, "
            f"x {c.time:.2f} (beside the roof x {c.relative:.2f}, noise {c.noise:.2f})"
            for c in chosen
        ]
    return lines, len(slower)
