"""One case: every contender built, checked, and timed in turns."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusednn.benchmarks import check, inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.library import Library, LibraryError
from fusednn.benchmarks.others import Others
from fusednn.benchmarks.peers import Peer
from fusednn.benchmarks.results import CaseResult, Timing
from fusednn.benchmarks.statistics import Pace, summarise, undisturbed


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
        Seconds within which a contender must be built and answer.
    timed : bool
        Whether to time at all, after the check.
    """

    turn: float = 0.02
    budget: float = 0.15
    turns: tuple[int, int] = (3, 5)
    prepare_timeout: float = 60.0
    timed: bool = True


FORMS = {
    "default": Settings(),
    "full": Settings(),
    "quick": Settings(budget=0.1, turns=(3, 3)),
    "smoke": Settings(timed=False),
}
_TURN_TIMEOUT = 60.0
#: Left when disturbed rounds are not counted; where they would be fewer, all count.
_LEAST_TURNS = 3


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
        The processes, by the names that peers call them, all with one number of threads.
    settings : Settings

    Returns
    -------
    CaseResult
    """
    started = time.monotonic()
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
    with tempfile.TemporaryDirectory() as folder:
        replies = _prepare_all(case, taking_part, libraries, settings, folder)
        for peer in taking_part:
            answer = Path(folder) / f"{peer.name}.npz"
            result.contenders[peer.name] = _judge(case, replies[peer.name], right, answer)
    if settings.timed:
        Turns(result, taking_part, libraries, settings).take()
    _release([libraries[process] for process in {peer.process for peer in taking_part}])
    result.seconds = round(time.monotonic() - started, 2)
    return result


def _release(libraries: list[Library]) -> None:
    def release(library: Library) -> None:
        # What cannot even do this is ended, and started anew for the next case.
        with suppress(LibraryError):
            library.ask("release", _TURN_TIMEOUT)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(release, (library for library in libraries if library.running)))


def _prepare_all(
    case: Case,
    peers: list[Peer],
    libraries: Mapping[str, Library],
    settings: Settings,
    folder: str,
) -> dict[str, dict[str, Any]]:
    """Build all contenders, processes side by side: nothing is timed, and compiling takes long."""
    processes = list(dict.fromkeys(peer.process for peer in peers))

    def prepare(process: str) -> dict[str, dict[str, Any]]:
        own = [peer for peer in peers if peer.process == process]
        return _prepare(case, own, libraries[process], settings, folder)

    replies: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(prepare, processes):
            replies |= found
    return replies


def _prepare(
    case: Case, peers: list[Peer], library: Library, settings: Settings, folder: str
) -> dict[str, dict[str, Any]]:
    """Build the contenders of one process."""
    replies: dict[str, dict[str, Any]] = {}
    waiting = list(peers)
    while waiting:
        peer = waiting.pop(0)
        answer = str(Path(folder) / f"{peer.name}.npz")
        try:
            replies[peer.name] = library.ask(
                "prepare", settings.prepare_timeout, case=case.name, name=peer.name, answer=answer
            )
        except LibraryError as error:
            replies[peer.name] = {"status": "failed", "reason": str(error)}
            # Those that were ready are gone with the process, and are built anew.
            lost = [p for p in peers if replies.get(p.name, {}).get("status") == "ready"]
            waiting = lost + [p for p in waiting if p not in lost]
    return replies


def _judge(case: Case, reply: Mapping[str, Any], right: Mapping[str, Any], path: Path) -> Timing:
    if reply["status"] != "ready":
        return Timing(reply["status"], reply["reason"])
    if reply["checked"]:
        with np.load(path) as answer:
            wrong = check.difference(case, answer, right)
        if wrong:
            return Timing("wrong", wrong)
    return Timing("right", reuses=reply["reuses"], note=reply["note"], checked=reply["checked"])


class Turns:
    """Times those that are right, A, B, A, B ...: what disturbs the machine disturbs all alike."""

    def __init__(
        self,
        result: CaseResult,
        peers: list[Peer],
        libraries: Mapping[str, Library],
        settings: Settings,
    ) -> None:
        self._result = result
        self._libraries = libraries
        self._settings = settings
        self._peers = [p for p in peers if result.contenders[p.name].status == "right"]
        self._times: dict[str, dict[int, list[float]]] = {p.name: {} for p in self._peers}

    def take(self) -> None:
        """Warm up, take turns, and write what they took into the result."""
        paces = self._paces()
        rounds = max((pace.turns for pace in paces.values()), default=0)
        pids = {library.pid for library in self._libraries.values()}
        others = Others({pid for pid in pids if pid is not None})
        for i in range(rounds):
            for peer in self._peers:
                pace = paces.get(peer.name)
                # The roof shows in each round how busy the machine is.
                if pace is not None and (i < pace.turns or peer.is_roof):
                    reply = self._ask(peer, "time", calls=pace.calls, batch=pace.batch)
                    if reply is not None:
                        self._times[peer.name][i] = reply["seconds"]
        if self._result.family != "neighbour":  # which is another program itself
            self._result.others = others.cpus()
        self._summarise()

    def _paces(self) -> dict[str, Pace]:
        paces = {}
        for peer in self._peers:
            reply = self._ask(peer, "warm_up")
            if reply is not None:
                s = self._settings
                paces[peer.name] = Pace.of(reply["seconds"], s.turn, s.budget, s.turns)
        return paces

    def _ask(self, peer: Peer, do: str, **arguments: int) -> dict[str, Any] | None:
        """Ask for something; None if the process has failed, and with it all that it had ready."""
        if self._result.contenders[peer.name].status == "failed":
            return None
        try:
            return self._libraries[peer.process].ask(do, _TURN_TIMEOUT, name=peer.name, **arguments)
        except LibraryError as error:
            for other in self._peers:
                if other.process == peer.process:
                    timing = self._result.contenders[other.name]
                    during = "" if other is peer else f"in the turn of {peer.name}: "
                    timing.status, timing.reason = "failed", f"{during}{error}"
            return None

    def _summarise(self) -> None:
        probe = self._times.get("roof", {})
        calm = undisturbed({i: float(np.median(seconds)) for i, seconds in probe.items()})
        self._result.disturbed = len(probe) - len(calm)
        for name, turns in self._times.items():
            timing = self._result.contenders[name]
            if timing.status == "right":
                kept = [seconds for i, seconds in turns.items() if i in calm]
                if len(kept) < min(_LEAST_TURNS, len(turns)):
                    kept = list(turns.values())
                summary = summarise(kept)
                timing.status, timing.turns = "timed", len(kept)
                times = (summary.median, summary.low, summary.high)
                timing.seconds, timing.low, timing.high = map(_rounded, times)


def _rounded(seconds: float) -> float:
    """Digits beyond the fifth are noise, and half of the file."""
    return float(f"{seconds:.5g}")
