"""Results as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from fusednn.benchmarks import bandwidth
from fusednn.benchmarks.peers import PEERS
from fusednn.benchmarks.results import CaseResult, Results
from fusednn.benchmarks.targets import reached
from fusednn.benchmarks.units import duration, size

_INTRODUCTION = """\
# Measured results

Written by `fusednn bench`; what the figures mean, and how far to trust them, is said in
[the notes on the method](../benchmarks.md). Ratios to a peer are the peer's time divided by
fusednn's: above 1, fusednn is faster. "Of roof" is the time of passes over memory with the same
traffic (for training steps: of the matrix products alone), divided by fusednn's. All ratios are of
medians of times taken in turns in one run.
"""


def page_text(results: Results, picture: str | PathLike[str] | None = None) -> str:
    """Return the page; `picture` is the path of the image from there."""
    parts: list[str] = [_INTRODUCTION]
    if picture is not None:
        parts.append(f"![Time of each case against the roof]({Path(picture).as_posix()})\n")
    parts.append("## The machine and the run\n")
    parts.append(_table(("", ""), _facts(results)))
    if results.bandwidths:
        parts.append("## What memory can do, GB/s\n")
        parts.append(_bandwidths(results))
    if any(case.ours for case in results.cases):
        parts.append("## Targets\n")
        parts.append(
            "With all threads. `worst` and `median` are over the cases that were measured; "
            "`kept` counts those within the bound.\n"
        )
        parts.append(_targets(results))
    for title, cases in _groups(results):
        parts += [f"## {title}\n", _cases(cases)]
    unsaid = list(_not_timed(results))
    if unsaid:
        parts += ["## Not timed\n", *(f"- {line}" for line in unsaid)]
    return "\n".join(parts).rstrip() + "\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * min(1, len(head)) + ["---:"] * (len(head) - 1), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    machine = results.machine
    yield "processor", str(machine["processor"])
    yield "CPUs used", str(machine["cpus"])
    yield "caches", ", ".join(f"{name} {size(n)}" for name, n in machine["caches"].items())
    yield "memory", size(machine["memory"])
    yield "system", str(machine["system"])
    yield from results.versions.items()
    yield "commit", results.commit
    yield "date", results.date
    yield "cases", str(len(results.cases))
    yield "duration", f"{results.seconds / 60:.0f} min"


def _bandwidths(results: Results) -> str:
    rates = {(b.pass_name, b.level, b.threads): b for b in results.bandwidths}
    columns = [
        (level, threads)
        for threads in sorted({b.threads for b in results.bandwidths})
        for level in bandwidth.LEVELS
    ]
    head = ["pass", *(f"{level}, {_threads(threads)}" for level, threads in columns)]
    rows = []
    for name in bandwidth.PASSES:
        found = [rates.get((name, *column)) for column in columns]
        rows.append([name, *(f"{b.gigabytes_per_second:.1f}" if b else "" for b in found)])
    return _table(head, rows)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _targets(results: Results) -> str:
    rows = []
    for found in reached(results):
        target = found.target
        about = ", ".join((target.about, *target.subjects[: target.about == "Training step"]))
        bound = f"{'>=' if target.figure.at_least else '<='} {target.bound:g}"
        row = [about, target.figure.name, bound]
        if found.values:
            figures = [f"{found.worst:.2f}", f"{found.median:.2f}"]
            row += [*figures, f"{found.met} of {len(found.values)}"]
        else:
            row += ["not measured", "", ""]
        rows.append(row)
    return _table(("cases", "figure", "bound", "worst", "median", "kept"), rows)


_TITLES = {
    "batch_norm": "BatchNorm + leaky ReLU, {variant}",
    "leaky_relu": "Leaky ReLU, {variant}",
    "optimizer": "Optimizers, {subject}",
    "step": "Training step",
}


def _groups(results: Results) -> Iterator[tuple[str, list[CaseResult]]]:
    groups: dict[str, list[CaseResult]] = {}
    for case in results.cases:
        title = _TITLES[case.family].format(
            variant=case.variant.replace("_", " "), subject=case.subject
        )
        groups.setdefault(title, []).append(case)
    yield from groups.items()


def _cases(cases: list[CaseResult]) -> str:
    """Return a table: a case per row, a peer's ratio per column."""
    timed = {name for case in cases for name, timing in case.contenders.items() if timing.timed}
    peers = [p.name for p in PEERS if p.name in timed and not p.is_roof and p.name != "fusednn"]
    head = ["case", "threads", "roof", "fusednn", "+-", "GB/s", "of roof", *peers]
    rows = []
    for case in sorted(cases, key=lambda c: (c.dtype != "float32", c.dtype)):
        ours, roof = case.ours, case.roof
        if ours is None:
            continue
        what = case.variant if case.family == "optimizer" else case.subject
        row = [what if case.dtype == "float32" else f"{what}, {case.dtype}", str(case.threads)]
        row += [duration(roof.seconds) if roof else "", duration(ours.seconds)]
        row += [f"{ours.spread / 2:.0%}"]
        row += [f"{case.traffic / ours.seconds / 1e9:.1f}" if case.traffic else ""]
        row += [f"{roof.seconds / ours.seconds:.2f}" if roof else ""]
        for name in peers:
            timing = case.contenders.get(name)
            measured = timing is not None and timing.timed
            row.append(f"{timing.seconds / ours.seconds:.2f}" if measured and timing else "")
        rows.append(row)
    return _table(head, rows)


def _not_timed(results: Results) -> Iterator[str]:
    """Yield what was wrong or failed, once for each reason."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for case in results.cases:
        for name, timing in case.contenders.items():
            if timing.status in ("wrong", "failed"):
                key = (name, timing.status, timing.reason)
                reasons.setdefault(key, []).append(f"{case.name} ({_threads(case.threads)})")
    for (name, status, reason), cases in reasons.items():
        yield f"{name}, {status}: {reason}: {', '.join(cases)}"
