"""One case: every contender built, checked, and timed in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusednn.benchmarks import check, inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.library import Library, LibraryError
from fusednn.benchmarks.peers import Peer
from fusednn.benchmarks.results import CaseResult, Timing
from fusednn.benchmarks.statistics import Pace, summarise


@dataclass(frozen=True)
class Settings:
    """How long to measure.

    Attributes
    ----------
    turn, budget : float
        Seconds of a turn, and of all turns of a contender in a case.
    turns : tuple of int
        Least and most turns; the least also where the budget is exceeded.
    prepare_timeout : float
        Seconds within which a contender must be built and warm.
    timed : bool
        Whether to time at all, after the check.
    """

    turn: float = 0.02
    budget: float = 0.25
    turns: tuple[int, int] = (4, 9)
    prepare_timeout: float = 60.0
    timed: bool = True


FORMS = {
    "default": Settings(),
    "full": Settings(),
    "quick": Settings(budget=0.1, turns=(3, 3)),
    "smoke": Settings(timed=False),
}
_TURN_TIMEOUT = 60.0


def measure(
    case: Case, peers: list[Peer], libraries: Mapping[str, Library], settings: Settings
) -> CaseResult:
    """Build and check all contenders of a case, then time those that are right.

    Parameters
    ----------
    case : Case
    peers : list of Peer
        Those that cannot do the case's family are passed over.
    libraries : mapping of str to Library
        The processes, by the library's name, all with one number of threads.
    settings : Settings

    Returns
    -------
    CaseResult
    """
    threads = next(iter(libraries.values())).threads
    result = CaseResult(case.name, threads, case.traffic)
    taking_part = [peer for peer in peers if case.family in peer.families]
    try:
        right = check.right_answer(case)
    except UnavailableError as reason:
        result.contenders = {p.name: Timing("absent", str(reason)) for p in taking_part}
        return result
    finally:
        inputs.forget()
    paces: dict[str, Pace] = {}
    with tempfile.TemporaryDirectory() as folder:
        for peer in taking_part:
            reply = _prepare(case, peer, libraries[peer.library], settings, folder)
            timing = _judge(case, reply, right, Path(folder) / f"{peer.name}.npz")
            result.contenders[peer.name] = timing
            if timing.status == "right":
                paces[peer.name] = Pace.of(
                    reply["seconds"], settings.turn, settings.budget, settings.turns
                )
    if settings.timed:
        _take_turns(result, [p for p in taking_part if p.name in paces], libraries, paces)
    for library in {peer.library for peer in taking_part}:
        if libraries[library].running:
            libraries[library].ask("release", _TURN_TIMEOUT)
    return result


def _prepare(
    case: Case, peer: Peer, library: Library, settings: Settings, folder: str
) -> dict[str, Any]:
    path = Path(folder) / f"{peer.name}.npz"
    try:
        return library.ask(
            "prepare", settings.prepare_timeout, case=case.name, name=peer.name, answer=str(path)
        )
    except LibraryError as error:
        # Contenders of the same library that were ready are gone with it: they fail in their turn.
        return {"status": "failed", "reason": str(error)}


def _judge(case: Case, reply: Mapping[str, Any], right: Mapping[str, Any], path: Path) -> Timing:
    if reply["status"] != "ready":
        return Timing(reply["status"], reply["reason"])
    if reply["checked"]:
        with np.load(path) as answer:
            wrong = check.difference(case, answer, right)
        if wrong:
            return Timing("wrong", wrong)
    return Timing("right", reuses=reply["reuses"], note=reply["note"])


def _take_turns(
    result: CaseResult,
    peers: list[Peer],
    libraries: Mapping[str, Library],
    paces: Mapping[str, Pace],
) -> None:
    """Time A, B, A, B ...: what disturbs the machine for a while disturbs all alike."""
    times: dict[str, list[list[float]]] = {peer.name: [] for peer in peers}
    for turn in range(max((pace.turns for pace in paces.values()), default=0)):
        for peer in peers:
            pace = paces[peer.name]
            timing = result.contenders[peer.name]
            if turn >= pace.turns or timing.status == "failed":
                continue
            try:
                reply = libraries[peer.library].ask(
                    "time", _TURN_TIMEOUT, name=peer.name, calls=pace.calls, batch=pace.batch
                )
                times[peer.name].append(reply["seconds"])
            except LibraryError as error:
                timing.status, timing.reason = "failed", str(error)
    for name, turns in times.items():
        timing = result.contenders[name]
        if timing.status == "right":
            summary = summarise(turns)
            timing.status, timing.turns = "timed", len(turns)
            timing.seconds, timing.low, timing.high = summary.median, summary.low, summary.high
