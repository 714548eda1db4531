"""Results as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from fusednn.benchmarks import bandwidth
from fusednn.benchmarks.peers import PEERS
from fusednn.benchmarks.results import CaseResult, Results
from fusednn.benchmarks.targets import reached
from fusednn.benchmarks.units import duration, size, threads

_INTRODUCTION = """\
# Measured results

Written by `fusednn bench`; what the figures mean, and how far to trust them, is said in
[the notes on the method](../benchmarks.md). Ratios to a peer are the peer's time divided by
fusednn's: above 1, fusednn is faster. "Of roof" is the time of passes over memory with the same
traffic (for training steps: of the matrix products alone), divided by fusednn's. All ratios are of
medians of times taken in turns in one run. Marked "?" is a time whose turns differ by more than
10 % either way, "!" a case in which something was faster than the roof. `fusednn` writes into
buffers that exist; of the others that is said under "Contenders".
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
            "With all threads. Large is what moves twice the last cache level or more. `worst` and "
            "`median` are over the cases that were measured; `kept` counts those within the bound. "
            "The best peer is one whose answer was checked"
            f"{_unchecked(results)}.\n"
        )
        parts.append(_targets(results))
    for title, cases in _groups(results):
        if any(case.ours for case in cases):
            parts += [f"## {title}\n", _cases(cases)]
    parts += ["## Contenders\n", _contenders(results)]
    sections = {
        "Faster than the roof": list(_above_roof(results)),
        "Absent": list(_reasons(results, ("absent",))),
        "Not timed": [*_reasons(results, ("wrong", "failed")), *results.problems],
    }
    for title, lines in sections.items():
        if lines:
            parts += [f"## {title}\n", *(f"- {line}" for line in lines), ""]
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
    yield "rounds not counted, disturbed", str(sum(case.disturbed for case in results.cases))
    yield "cases beside busy other programs", str(sum(case.busy for case in results.cases))
    yield "duration", f"{results.seconds / 60:.0f} min"


def _bandwidths(results: Results) -> str:
    rates = {(b.pass_name, b.level, b.threads): b for b in results.bandwidths}
    columns = [
        (level, count)
        for count in sorted({b.threads for b in results.bandwidths})
        for level in bandwidth.LEVELS
    ]
    head = ["pass", *(f"{level}, {threads(count)}" for level, count in columns)]
    rows = []
    for name in bandwidth.PASSES:
        found = [rates.get((name, *column)) for column in columns]
        rows.append([name, *(f"{b.gigabytes_per_second:.1f}" if b else "" for b in found)])
    return _table(head, rows)


def _targets(results: Results) -> str:
    rows = []
    for found in reached(results):
        target = found.target
        about = ", ".join((target.about, *target.subjects[: target.about == "Training step"]))
        bound = f"{'>=' if target.figure.at_least else '<='} {target.bound:g}"
        row = [about, target.figure.name, bound]
        if found.values:
            figures = [f"{found.worst:.2f}", f"{found.median:.2f}"]
            busy = f", {found.busy} beside other programs" if found.busy else ""
            row += [*figures, f"{found.met} of {len(found.values)}{busy}"]
        else:
            row += ["the machine was busy" if found.busy else "not measured", "", ""]
        rows.append(row)
    return _table(("cases", "figure", "bound", "worst", "median", "kept"), rows)


_TITLES = {
    "batch_norm": "BatchNorm + leaky ReLU, {variant}",
    "leaky_relu": "Leaky ReLU, {variant}",
    "optimizer": "Optimizers, {subject}",
    "step": "Training step",
    "neighbour": "Beside a busy neighbour",
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
        if case.family == "neighbour":
            what = f"{case.variant}, {case.subject}"
        what += "?" if case.busy else ""
        row = [what if case.dtype == "float32" else f"{what}, {case.dtype}", str(case.threads)]
        row += [duration(roof.seconds) if roof else "", duration(ours.seconds)]
        row += [f"{ours.spread / 2:.0%}{'?' if ours.uncertain else ''}"]
        row += [f"{case.traffic / ours.seconds / 1e9:.1f}" if case.traffic else ""]
        above = "!" if any(case.above_roof()) else ""
        row += [f"{roof.seconds / ours.seconds:.2f}{above}" if roof else ""]
        for name in peers:
            timing = case.contenders.get(name)
            measured = timing is not None and timing.timed
            doubt = "?" if timing is not None and timing.uncertain else ""
            row.append(f"{timing.seconds / ours.seconds:.2f}{doubt}" if measured and timing else "")
        rows.append(row)
    return _table(head, rows)


def _unchecked(results: Results) -> str:
    """Name the peers that are no best peer."""
    unchecked = {n for case in results.cases for n, t in case.peers() if not t.checked}
    names = [peer.name for peer in PEERS if peer.name in unchecked]
    return f"; not always so: {', '.join(names)}" if names else ""


def _contenders(results: Results) -> str:
    """Return a table: where each contender's results went, and what else is to know."""
    outputs: dict[str, set[str]] = {}
    notes: dict[str, dict[str, None]] = {}
    for case in results.cases:
        for name, timing in case.contenders.items():
            if timing.status in ("timed", "right") and not name.startswith("roof"):
                outputs.setdefault(name, set()).add("reused" if timing.reuses else "fresh")
                if timing.note:
                    notes.setdefault(name, {})[f"{timing.note} ({case.family})"] = None
    rows = [
        [peer.name, " or ".join(sorted(outputs[peer.name])), "; ".join(notes.get(peer.name, ()))]
        for peer in PEERS
        if peer.name in outputs
    ]
    return _table(("contender", "output buffers", "notes"), rows)


def _above_roof(results: Results) -> Iterator[str]:
    """Yield the cases in which the roof was not the limit, and who was faster."""
    for case in results.cases:
        above = [f"{name} {ratio:.2f} x" for name, ratio in case.above_roof()]
        if above:
            yield f"{case.name} ({threads(case.threads)}): {', '.join(above)}"


def _reasons(results: Results, statuses: tuple[str, ...]) -> Iterator[str]:
    """Yield what was not timed, once for each reason."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for case in results.cases:
        for name, timing in case.contenders.items():
            if timing.status in statuses:
                key = (name, timing.status, timing.reason)
                reasons.setdefault(key, []).append(f"{case.name} ({threads(case.threads)})")
    for (name, status, reason), cases in reasons.items():
        where = f"{len(cases)} cases" if status == "absent" else ", ".join(cases)
        yield f"{name}, {status}: {reason}: {where}"
