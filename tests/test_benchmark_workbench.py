"""What a library's process does for a case: warming up, and forgetting what the case held."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusednn.benchmarks import workbench
from fusednn.benchmarks.contender import Contender
from fusednn.benchmarks.library import LibraryError
from fusednn.benchmarks.measure import _release
from fusednn.benchmarks.workbench import Workbench

SMALL = "batch_norm/forward/nc-32x100/float32"


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.alone
class TestWarmUp:
    @pytest.mark.parametrize(
        ("seconds", "runs"),
        [
            (0.12, 1),  # the answer warmed it up
            (0.03, 2),
            (0.001, 1 + 1 + 10),
            (1e-6, 1 + 1 + 10 + 100),
        ],
    )
    def test_slow_contenders_run_less(self, seconds: float, runs: int) -> None:
        count = 0

        def run() -> None:
            nonlocal count
            count += 1
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                pass

        bench = Workbench("numpy")
        bench.contenders["numpy"] = Contender(run, dict, reuses=True)
        told = bench.warm_up("numpy")["seconds"]
        assert count == runs
        assert told >= seconds


@pytest.mark.parametrize("batch", [1, 7])
def test_what_comes_before_a_run_is_not_timed(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that each of a contender's functions sets forward."""
    now = 0.0
    order: list[str] = []

    def takes(seconds: float, name: str) -> Callable[[], None]:
        def act() -> None:
            nonlocal now
            now += seconds
            order.append(name)

        return act

    monkeypatch.setattr(workbench.time, "perf_counter", lambda: now)
    bench = Workbench("numpy")
    bench.contenders["numpy"] = Contender(
        takes(2.0, "run"),
        dict,
        reuses=True,
        before=takes(100.0, "before"),
        finish=takes(1.0, "finish"),
    )
    assert bench.warm_up("numpy")["seconds"] == 3.0
    assert bench.time("numpy", calls=4, batch=batch)["seconds"] == [3.0] * 4
    assert order == ["before", "run", "finish"] * (len(order) // 3)
    # Without anything before, a batch is waited for once.
    bench.contenders["numpy"] = Contender(
        takes(2.0, "run"), dict, reuses=True, finish=takes(1.0, "finish")
    )
    assert bench.time("numpy", calls=1, batch=batch)["seconds"] == [2.0 + 1.0 / batch]


class Cycle:
    """Something that only the collector frees."""

    def __init__(self) -> None:
        self.own = self

    def run(self) -> None:
        pass


class TestRelease:
    def test_what_a_library_brings_is_not_looked_through(self, tmp_path: Path) -> None:
        gc.unfreeze()
        bench = Workbench("numpy")
        for name in ("a", "b"):
            assert bench.prepare(SMALL, "numpy", str(tmp_path / name))["status"] == "ready"
        frozen = gc.get_freeze_count()
        assert frozen > 1000
        bench.release()
        bench.prepare(SMALL, "numpy", str(tmp_path / "c"))
        # Once for each family: fewer are those that were freed since.
        assert gc.get_freeze_count() <= frozen

    def test_what_was_ready_before_is_not_kept_by_a_new_family(self, tmp_path: Path) -> None:
        gc.unfreeze()
        bench = Workbench("numpy")
        bench.contenders["numpy"] = Contender(Cycle().run, dict, reuses=True)
        bench.prepare(SMALL, "numpy", str(tmp_path / "a"))
        assert gc.get_freeze_count() == 0

    def test_cycles_of_large_cases_are_collected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workbench, "_WORTH_COLLECTING", -1)
        bench = Workbench("numpy")
        cycle = Cycle()
        gone = weakref.ref(cycle)
        bench.contenders["numpy"] = Contender(cycle.run, dict, reuses=True)
        del cycle
        gc.disable()
        try:
            bench.release()
            assert gone() is None
        finally:
            gc.enable()

    def test_all_processes_are_asked_though_one_fails(self) -> None:
        asked: list[str] = []

        class Process:
            def __init__(self, name: str, *, running: bool = True) -> None:
                self.name, self.running = name, running

            def ask(self, do: str, timeout: float) -> dict[str, str]:
                asked.append(f"{do} {self.name}")
                if self.name == "b":
                    raise LibraryError("the process ended")
                return {}

        _release([Process("a"), Process("b"), Process("c"), Process("d", running=False)])  # type: ignore[list-item]
        assert sorted(asked) == ["release a", "release b", "release c"]
