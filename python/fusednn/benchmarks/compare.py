"""Which cases became slower from one run to another, beyond what the noise explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import geometric_mean

from fusednn.benchmarks.results import CaseResult, Results
from fusednn.benchmarks.units import duration

#: Runs on one machine differ by this much where nothing changed.
_FLOOR = 0.15
#: What tells one machine from another; its kernel and memory may change.
_MACHINE = ("processor", "cpus", "caches")


@dataclass(frozen=True)
class Change:
    """One case in two runs.

    Attributes
    ----------
    time, relative : float
        New time by old time: of fusednn, and of fusednn divided by the roof or, where there is
        none, by the geometric mean of what else both runs timed.
    noise : float
        What either may differ from 1 without meaning anything.
    same_machine : bool
        Where the machines differ, only `relative` means something.
    """

    name: str
    threads: int
    old: float
    new: float
    time: float
    relative: float
    noise: float
    same_machine: bool

    @property
    def slower(self) -> bool:
        """Whether the time grew beside the roof and, on one machine, as such."""
        grown = min(self.time, self.relative) if self.same_machine else self.relative
        return grown > 1 + self.noise

    @property
    def faster(self) -> bool:
        """Whether the time fell beside the roof and, on one machine, as such."""
        grown = max(self.time, self.relative) if self.same_machine else self.relative
        return grown < 1 / (1 + self.noise)


def same_machine(old: Results, new: Results) -> bool:
    """Whether times of the two runs may be compared as they are."""
    return all(old.machine.get(key) == new.machine.get(key) for key in _MACHINE)


def changes(old: Results, new: Results) -> list[Change]:
    """Return the cases that both runs timed; on two machines those with something beside them."""
    same = same_machine(old, new)
    pairs = ((_found_in(old, case), case) for case in new.cases)
    found = (None if before is None else _change(before, case, same) for before, case in pairs)
    return [change for change in found if change is not None]


def _found_in(results: Results, case: CaseResult) -> CaseResult | None:
    for other in results.cases:
        if (other.name, other.threads) == (case.name, case.threads):
            return other
    return None


def _change(old: CaseResult, new: CaseResult, same: bool) -> Change | None:
    if old.ours is None or new.ours is None:
        return None
    time = new.ours.seconds / old.ours.seconds
    surroundings = _surroundings(old, new)
    if surroundings is None and not same:
        return None
    beside, spread = surroundings or (1.0, 0.0)
    noise = _FLOOR + (old.ours.spread + new.ours.spread + (0 if same else spread)) / 2
    return Change(
        *(new.name, new.threads, old.ours.seconds, new.ours.seconds),
        *(time, time / beside, noise, same),
    )


def _surroundings(old: CaseResult, new: CaseResult) -> tuple[float, float] | None:
    """Return by how much the roof's time, or else the others', grew, and how it scatters."""
    if old.roof is not None and new.roof is not None:
        return new.roof.seconds / old.roof.seconds, old.roof.spread + new.roof.spread
    # fusednn beside a neighbour has only its other forms beside it.
    before, after = (
        {n: t for n, t in case.contenders.items() if t.timed and n != "fusednn"}
        for case in (old, new)
    )
    pairs = [(before[name], timing) for name, timing in after.items() if name in before]
    if not pairs:
        return None
    spread = sum(a.spread + b.spread for a, b in pairs) / len(pairs)
    return geometric_mean(b.seconds / a.seconds for a, b in pairs), spread


def broken(old: Results, new: Results) -> Iterator[str]:
    """Tell of what the old run timed and the new one has and did not: wrong, or failed."""
    for case in old.cases:
        after = _found_in(new, case)
        if case.ours is not None and after is not None and after.ours is None:
            timing = after.contenders.get("fusednn")
            reason = f"{timing.status}: {timing.reason}" if timing else "without fusednn"
            yield f"{case.name}, {case.threads} threads: {reason}"


def vanished(old: Results, new: Results) -> Iterator[str]:
    """Tell of what the old run timed and the new one does not have."""
    for case in old.cases:
        if case.ours is not None and _found_in(new, case) is None:
            yield f"{case.name}, {case.threads} threads"


def compare_lines(old: Results, new: Results) -> tuple[list[str], int]:
    """Return a report, and the number of regressions: slower cases and broken ones.

    Cases that the new run does not have are named but no regressions: it may have been asked for
    less.

    Raises
    ------
    ValueError
        If the runs have no case in common.
    """
    found = changes(old, new)
    lost = list(broken(old, new))
    if not found and not lost:
        raise ValueError("the two runs have no case in common that both timed")
    lines = []
    if not same_machine(old, new):
        lines.append(
            "The machines differ: cases are judged beside the roof, or what else was timed."
        )
    slower = sorted((c for c in found if c.slower), key=lambda c: -c.relative)
    faster = sorted((c for c in found if c.faster), key=lambda c: c.relative)
    for title, chosen in (("slower", slower), ("faster", faster)):
        lines += [f"{title}: {len(chosen)} of {len(found)} cases"]
        lines += [
            f"  {c.name}, {c.threads} threads: {duration(c.old)} -> {duration(c.new)}, "
            f"x {c.time:.2f} (beside the roof or others x {c.relative:.2f}, noise {c.noise:.2f})"
            for c in chosen
        ]
    for title, told in (
        ("no longer timed", lost),
        ("not in the new run", list(vanished(old, new))),
    ):
        if told:
            lines += [f"{title}: {len(told)} cases", *(f"  {line}" for line in told)]
    return lines, len(slower) + len(lost)
