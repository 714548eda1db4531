"""What a benchmark's run does when processes fail, turns are disturbed, or it is interrupted."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusednn.benchmarks import catalogue, run, statistics
from fusednn.benchmarks.library import Library, LibraryError
from fusednn.benchmarks.measure import Settings, Turns, measure
from fusednn.benchmarks.others import Others
from fusednn.benchmarks.peers import PEERS, Peer, select_peers
from fusednn.benchmarks.results import CaseResult, Results, Timing
from fusednn.benchmarks.workbench import Workbench
from fusednn.cli import main

SMALL = "batch_norm/forward/nc-32x100/float32"
BRIEF = Settings(turn=1e-4, budget=3e-4, turns=(2, 3))

#: Processes work side by side; in one process they would share the inputs.
ONE_AT_A_TIME = threading.Lock()

Fault = Callable[[str, dict[str, Any]], bool]


class Faulty(Library):
    """A library in this process that, where `fault` says so, fails as an ended process does."""

    def __init__(self, name: str, fault: Fault) -> None:
        super().__init__(name, 1)
        self.fault = fault
        self.bench = Workbench(name)
        self.asked: list[tuple[str, str]] = []

    def ask(self, do: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        self.asked.append((do, arguments.get("name", "")))
        if self.fault(do, arguments):
            self.bench = Workbench(self.name)  # what was ready is gone
            raise LibraryError("the process ended")
        with ONE_AT_A_TIME:
            reply: dict[str, Any] = getattr(self.bench, do)(**arguments)
        return reply

    @property
    def running(self) -> bool:
        return True


def peers_named(*names: str) -> list[Peer]:
    return [peer for peer in PEERS if peer.name in names]


def measured(peers: list[Peer], fault: Fault) -> tuple[CaseResult, dict[str, Faulty]]:
    libraries = {peer.process: Faulty(peer.library, fault) for peer in peers}
    return measure(catalogue.case_named(SMALL), peers, libraries, BRIEF), libraries


class TestFailures:
    def test_contenders_that_were_ready_are_built_anew(self) -> None:
        peers = peers_named("roof", "fusednn", "fusednn-fresh", "numpy")
        result, libraries = measured(
            peers, lambda do, a: do == "prepare" and a["name"] == "fusednn-fresh"
        )
        statuses = {name: timing.status for name, timing in result.contenders.items()}
        expected = dict.fromkeys(("roof", "fusednn", "numpy"), "timed")
        assert statuses == {**expected, "fusednn-fresh": "failed"}
        assert result.contenders["fusednn-fresh"].reason == "the process ended"
        prepared = [name for do, name in libraries["fusednn"].asked if do == "prepare"]
        assert prepared == ["roof", "fusednn", "fusednn-fresh", "roof", "fusednn"]

    @pytest.mark.parametrize("request_", ["warm_up", "time"])
    def test_a_process_that_ends_in_a_turn_takes_its_own_along(self, request_: str) -> None:
        peers = peers_named("roof", "fusednn", "numpy")
        result, _ = measured(peers, lambda do, a: do == request_ and a["name"] == "fusednn")
        contenders = result.contenders
        assert contenders["numpy"].timed
        assert contenders["fusednn"].reason == "the process ended"
        assert contenders["roof"].status == "failed"
        assert contenders["roof"].reason == "in the turn of fusednn: the process ended"

    def test_a_process_that_cannot_even_release_ends_nothing(self) -> None:
        result, _ = measured(peers_named("roof", "fusednn"), lambda do, a: do == "release")
        assert result.contenders["fusednn"].timed

    def test_compiled_contenders_have_a_process_of_their_own(self) -> None:
        processes = {peer.name: peer.process for peer in PEERS}
        assert processes["torch-compile"] == "torch-compile"
        assert processes["torch"] == processes["torch-fused"] == "torch"
        assert [p.name for p in PEERS if p.process == "torch-compile"] == ["torch-compile"]

    def test_the_end_of_standard_error_is_told(self) -> None:
        with Library("no_such_library", 1) as library:
            with pytest.raises(LibraryError, match=r"ended within 60 s; it wrote: .*KeyError"):
                library.ask("time", 60, name="nothing", calls=1, batch=1)
            assert not library.running


class TestRun:
    @staticmethod
    def _run(monkeypatch: pytest.MonkeyPatch, fault: Fault, **options: Any) -> Results:
        monkeypatch.setattr(run, "Library", lambda name, threads: Faulty(name, fault))
        monkeypatch.setattr(run.bandwidth, "working_sets", lambda caches: {"L2": 1 << 16})
        chosen = [(catalogue.case_named(SMALL), 1)]
        return run.run(chosen, select_peers(["numpy"]), BRIEF, **options)

    def test_without_what_memory_can_do_the_run_goes_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        results = self._run(monkeypatch, lambda do, a: do == "prepare_pass")
        assert results.problems == ["what memory can do, 1 threads: the process ended"]
        assert results.bandwidths == []
        assert results.cases[0].ours is not None

    def test_without_versions_the_run_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        results = self._run(monkeypatch, lambda do, a: do == "versions")
        assert "versions of numpy: the process ended" in results.problems
        assert results.cases[0].ours is not None

    def test_all_is_there_after_each_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[tuple[int, bool]] = []

        def on_case(results: Results) -> None:
            seen.append((len(results.cases), "numpy" in results.versions))

        results = self._run(monkeypatch, lambda do, a: False, on_case=on_case)
        assert seen == [(1, True)]
        assert results.seconds > 0
        assert results.cases[0].seconds > 0

    def test_an_interrupted_run_keeps_what_it_has(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        done: list[str] = []

        def one_case_then_interrupt(case: Any, *arguments: Any) -> CaseResult:
            if done:
                raise KeyboardInterrupt
            done.append(case.name)
            return CaseResult(case.name, 1, case.traffic, {"fusednn": Timing("right")})

        monkeypatch.setattr(run, "measure", one_case_then_interrupt)
        path = tmp_path / "a.json"
        command = ["bench", "--smoke", "leaky_relu", "--peers", "numpy", "--json", str(path)]
        assert main(command) != 0
        assert [case.name for case in Results.read(path).cases] == done
        assert [file.name for file in tmp_path.iterdir()] == ["a.json"]

    def test_a_file_is_replaced_as_a_whole(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.json"
        results = Results({}, {}, "abc", "2024-01-01", {})
        results.write(path)
        results.cases.append(CaseResult("a/b/c/d", 1, 0, {"x": Timing("timed", seconds=1e999)}))
        with pytest.raises(ValueError, match="Out of range float values"):
            results.write(path)
        assert Results.read(path).cases == []


class TestOthers:
    def test_a_busy_process_is_another_unless_it_is_ours(self) -> None:
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            everybody, but_one = Others(set()), Others({busy.pid})
            used = Path(f"/proc/{busy.pid}/stat")

            def ticks() -> int:
                return sum(map(int, used.read_text().split()[13:15]))

            begun = ticks()
            while ticks() < begun + 30:
                time.sleep(0.01)
            assert everybody.cpus() > but_one.cpus()
        finally:
            busy.kill()
            busy.wait()
        assert but_one.cpus() == 0.0  # what it took is not known any more

    def test_nobody_is_seen_where_nothing_tells(self, tmp_path: Path) -> None:
        assert Others(set(), tmp_path).cpus() == 0.0


class TestDisturbedTurns:
    def test_rounds_in_which_the_probe_is_off(self) -> None:
        assert statistics.undisturbed({0: 1.0, 1: 1.1, 2: 2.0, 3: 0.9, 4: 0.5}) == {0, 1, 3}
        assert statistics.undisturbed({}) == set()

    @pytest.mark.parametrize(
        ("roof", "ours", "disturbed", "kept", "median"),
        [
            ([1, 1, 1, 1, 3], [2, 2, 2, 2, 9], 1, 4, 2.0),
            ([1, 1, 1, 1], [2, 2, 9, 9], 0, 4, 5.5),
            ([1, 1, 3], [2, 3, 9], 1, 3, 3.0),  # too few would be left
        ],
    )
    def test_they_are_not_counted(
        self, roof: list[float], ours: list[float], disturbed: int, kept: int, median: float
    ) -> None:
        rows = {"roof": iter(roof), "fusednn": iter(ours)}

        class Scripted(Library):
            def ask(self, do: str, timeout: float, **arguments: Any) -> dict[str, Any]:
                if do == "warm_up":
                    return {"seconds": 1.0}
                return {"seconds": [float(next(rows[arguments["name"]]))]}

        names = ("roof", "fusednn")
        result = CaseResult(SMALL, 1, 1, {name: Timing("right") for name in names})
        settings = Settings(budget=99.0, turns=(len(roof), len(roof)))
        Turns(result, peers_named(*names), {"fusednn": Scripted("fusednn", 1)}, settings).take()
        assert result.disturbed == disturbed
        assert result.contenders["fusednn"].turns == kept
        assert result.contenders["fusednn"].seconds == median
