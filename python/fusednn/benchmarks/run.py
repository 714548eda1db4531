"""A whole run: the roof of memory, then case after case."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from fusednn.benchmarks import bandwidth
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.library import Library, LibraryError
from fusednn.benchmarks.machine import cache_sizes, commit, machine, own_versions
from fusednn.benchmarks.measure import Settings, measure
from fusednn.benchmarks.peers import Peer
from fusednn.benchmarks.results import Bandwidth, Results
from fusednn.benchmarks.statistics import Pace, summarise

_TIMEOUT = 60.0


def run(
    chosen: Sequence[tuple[Case, int]],
    peers: list[Peer],
    settings: Settings,
    *,
    form: str = "default",
    on_case: Callable[[Results], Any] | None = None,
) -> Results:
    """Run cases and return everything that was found.

    Parameters
    ----------
    chosen : sequence of (Case, int)
        Cases and their numbers of threads, as `catalogue.select` returns them.
    peers : list of Peer
    settings : Settings
    form : str
        Written into the results.
    on_case : callable, optional
        Called after each case with all results so far, the latest last.
    """
    started = time.monotonic()
    results = Results(
        machine(),
        own_versions(),
        commit(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        {"form": form, "turn": settings.turn, "budget": settings.budget},
    )
    # One number of threads after the other: half as many processes at a time.
    for threads in sorted({count for _, count in chosen}):
        with ExitStack() as stack:
            libraries = {
                peer.process: stack.enter_context(Library(peer.library, threads)) for peer in peers
            }
            if settings.timed:
                _add_bandwidths(results, libraries["fusednn"], settings)
            known: set[str] = set()
            for case, count in chosen:
                if count == threads:
                    results.cases.append(measure(case, peers, libraries, settings))
                    _add_versions(results, libraries, known)
                    results.seconds = round(time.monotonic() - started, 1)
                    if on_case is not None:
                        on_case(results)
    return results


def _add_versions(results: Results, libraries: Mapping[str, Library], known: set[str]) -> None:
    """Ask for the versions of libraries that were not asked before."""
    for name, library in libraries.items():
        if library.running and name not in known:
            known.add(name)
            try:
                results.versions |= library.ask("versions", _TIMEOUT)
            except LibraryError as error:
                results.problems.append(f"versions of {name}: {error}")


def _add_bandwidths(results: Results, library: Library, settings: Settings) -> None:
    """Measure what memory can do; a run goes on without it."""
    try:
        results.bandwidths += _bandwidths(library, settings)
    except LibraryError as error:
        results.problems.append(f"what memory can do, {library.threads} threads: {error}")


def _bandwidths(library: Library, settings: Settings) -> list[Bandwidth]:
    """Measure what memory can do, the passes in turns."""
    found = []
    for level, size in bandwidth.working_sets(cache_sizes()).items():
        paces = {}
        for name in bandwidth.PASSES:
            reply = library.ask("prepare_pass", _TIMEOUT, name=name, size=size)
            paces[name] = Pace.of(
                reply["seconds"], settings.turn, settings.budget / 2, settings.turns
            )
        turns: dict[str, list[list[float]]] = {name: [] for name in paces}
        for turn in range(settings.turns[1]):
            for name, pace in paces.items():
                if turn < pace.turns:
                    reply = library.ask(
                        "time", _TIMEOUT, name=name, calls=pace.calls, batch=pace.batch
                    )
                    turns[name].append(reply["seconds"])
        library.ask("release", _TIMEOUT)
        for name, times in turns.items():
            rate = bandwidth.stream_of(name, size).traffic / summarise(times).median / 1e9
            found.append(Bandwidth(name, level, size, library.threads, round(rate, 2)))
    return found
