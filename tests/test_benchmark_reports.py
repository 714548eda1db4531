"""What the benchmark suite writes: results as JSON, comparisons, targets, page and picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fusednn.benchmarks import catalogue
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.compare import changes, compare_lines
from fusednn.benchmarks.page import page_text
from fusednn.benchmarks.picture import draw, panels
from fusednn.benchmarks.results import Bandwidth, CaseResult, Results, Timing
from fusednn.benchmarks.table import case_lines
from fusednn.benchmarks.targets import TARGETS, reached
from fusednn.benchmarks.units import duration, size
from fusednn.cli import main

SMALL = "batch_norm/forward/nc-32x100/float32"


def case_named(name: str) -> Case:
    return catalogue.all_cases()[name]


def timed(seconds: float, spread: float = 0.0, *, reuses: bool = True) -> Timing:
    low, high = seconds * (1 - spread / 2), seconds * (1 + spread / 2)
    return Timing("timed", seconds=seconds, low=low, high=high, turns=5, reuses=reuses)


def case_result(name: str, **times: float) -> CaseResult:
    contenders = {key.replace("_", "-"): timed(value) for key, value in times.items()}
    return CaseResult(name, 2, case_named(name).traffic, contenders)


def results_of(*cases: CaseResult) -> Results:
    machine = {
        "processor": "P",
        "cpus": 2,
        "caches": {"L2": 1 << 20, "L3": 1 << 25},
        "memory": 1 << 34,
        "system": "S",
    }
    rates = [Bandwidth("copy", "memory", 1 << 28, 2, 21.5)]
    versions = {"fusednn": "1", "torch": "2"}
    return Results(machine, versions, "abc", "2024-01-01", {}, 60.0, rates, list(cases))


LARGE = "batch_norm/forward/nchw-32x64x112x112/float32"


class TestResults:
    def test_json_round_trip(self, tmp_path: Path) -> None:
        results = results_of(case_result(LARGE, fusednn=1.0, roof=0.5, torch=7.0))
        results.cases[0].contenders["onednn"] = Timing("absent", "why")
        results.write(tmp_path / "a.json")
        assert Results.read(tmp_path / "a.json") == results

    def test_file_says_no_defaults_and_has_a_case_a_line(self, tmp_path: Path) -> None:
        results = results_of(case_result(LARGE, fusednn=1.0), case_result(SMALL, fusednn=1.0))
        results.write(tmp_path / "a.json")
        lines = (tmp_path / "a.json").read_text().splitlines()
        assert [line.count("contenders") for line in lines if "contenders" in line] == [1, 1]
        assert not any(word in line for line in lines for word in ("reason", "note", "checked"))

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
    def test_other_files_are_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "a.json"
        path.write_text(text)
        with pytest.raises(ValueError, match="does not hold results of a benchmark"):
            Results.read(path)

    def test_roof_and_best_peer(self) -> None:
        case = case_result(LARGE, fusednn=1.0, fusednn_fresh=0.4, roof=0.5, roof_non_temporal=0.3)
        assert case.best_peer() is None
        assert case.roof == timed(0.3)
        case.contenders |= {"torch": timed(3.0), "jax": timed(2.0), "numpy": Timing("wrong", "y")}
        assert case.best_peer() == ("jax", timed(2.0))

    def test_units(self) -> None:
        assert [duration(s) for s in (4.714e-6, 0.01234, 2.0)] == ["4.71 us", "12.3 ms", "2.00 s"]
        assert [size(n) for n in (12, 1536, 1 << 20)] == ["12 B", "1.5 KiB", "1 MiB"]


class TestCompare:
    @pytest.mark.parametrize(
        ("time", "roof", "spread", "slower"),
        [
            (1.0, 0.5, 0.0, False),
            (1.1, 0.5, 0.0, False),  # within what two runs differ by
            (1.3, 0.5, 0.0, True),
            (1.3, 0.65, 0.0, False),  # the machine was slower
            (1.3, 0.5, 0.4, False),  # the times scatter as much
            (1.0, 0.3, 0.0, False),  # only the roof became faster
        ],
    )
    def test_regression(self, time: float, roof: float, spread: float, slower: bool) -> None:
        old = results_of(case_result(LARGE, fusednn=1.0, roof=0.5))
        new = results_of(case_result(LARGE, fusednn=time, roof=roof))
        new.cases[0].contenders["fusednn"] = timed(time, spread)
        lines, regressions = compare_lines(old, new)
        assert regressions == int(slower)
        assert any(LARGE in line for line in lines) == slower
        assert changes(new, old)[0].faster == slower

    def test_without_a_case_in_common(self) -> None:
        with pytest.raises(ValueError, match="no case in common"):
            compare_lines(results_of(), results_of(case_result(LARGE, fusednn=1.0)))

    @pytest.mark.parametrize(("ours", "slower"), [(1.0, True), (0.5, False), (0.55, False)])
    def test_another_machine_is_judged_by_ratios(self, ours: float, slower: bool) -> None:
        old = results_of(case_result(LARGE, fusednn=1.0, roof=0.5, torch=9.0))
        new = results_of(case_result(LARGE, fusednn=ours, roof=0.25, torch=9.0))
        new.machine["system"] = "another kernel"
        assert compare_lines(old, new)[1] == 0  # one machine, on which the time did not grow
        new.machine["processor"] = "another"
        lines, regressions = compare_lines(old, new)
        assert lines[0].startswith("The machines differ")
        assert regressions == int(slower)

    def test_without_a_roof_the_others_are_the_measure(self) -> None:
        name = "neighbour/optimizer-adam/100x100x100/float32"
        old = results_of(case_result(name, fusednn=1.0, fusednn_alone=2.0, fusednn_one_thread=2.0))
        new = results_of(case_result(name, fusednn=2.0, fusednn_alone=2.0, fusednn_one_thread=8.0))
        assert changes(old, new)[0].relative == pytest.approx(1.0)
        new.machine["processor"] = "another"
        assert compare_lines(old, new)[1] == 0

    def test_absolute_times_of_two_machines_are_not_compared(self) -> None:
        other = LARGE.replace("forward", "both")
        old = results_of(case_result(LARGE, fusednn=1.0), case_result(other, fusednn=1.0, roof=1.0))
        new = results_of(case_result(LARGE, fusednn=9.0), case_result(other, fusednn=1.0, roof=1.0))
        assert [change.name for change in changes(old, new)] == [LARGE, other]
        new.machine["processor"] = "another"
        assert [change.name for change in changes(old, new)] == [other]

    def test_failed_and_vanished_cases_are_told(self) -> None:
        other = LARGE.replace("forward", "both")
        old = results_of(*(case_result(name, fusednn=1.0) for name in (LARGE, SMALL, other)))
        new = results_of(case_result(LARGE, fusednn=1.0), CaseResult(SMALL, 2, 1))
        new.cases[1].contenders["fusednn"] = Timing("wrong", "y is off")
        lines, regressions = compare_lines(old, new)
        assert regressions == 1
        assert lines[-4:] == [
            "no longer timed: 1 cases",
            f"  {SMALL}, 2 threads: wrong: y is off",
            "not in the new run: 1 cases",
            f"  {other}, 2 threads",
        ]

    def test_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        old, new = tmp_path / "old.json", tmp_path / "new.json"
        results_of(case_result(LARGE, fusednn=1.0)).write(old)
        results_of(case_result(LARGE, fusednn=2.0)).write(new)
        assert main(["bench", "compare", str(old), str(old)]) == 0
        assert "slower: 0 of 1 cases" in capsys.readouterr().out
        assert main(["bench", "compare", str(old), str(new)]) == 2
        said = capsys.readouterr()
        assert f"{LARGE}, 2 threads: 1.00 s -> 2.00 s" in said.out
        assert "1 cases are slower than before" in said.err
        assert main(["bench", "compare", str(old)]) == 2
        assert "compare takes two files" in capsys.readouterr().err


class TestCommittedRun:
    """The page in the documentation and the run that it reports."""

    page = Path(__file__).parents[1] / "docs/benchmarks/results.md"

    def test_page_is_made_from_the_json_beside_its_picture(self) -> None:
        text = self.page.read_text()
        found = re.search(r"^!\[.*\]\((.*)\)$", text, re.MULTILINE)
        assert found, "the page has no picture"
        picture = self.page.parent / found[1]
        assert picture.is_file()
        assert page_text(Results.read(picture.with_suffix(".json")), found[1]) == text

    def test_every_committed_run_can_be_read(self) -> None:
        runs = list((self.page.parents[2] / "benchmarks/results").glob("*cpu*.json"))
        assert runs
        for run in runs:
            assert Results.read(run).cases


class TestReports:
    def test_targets_are_computed(self) -> None:
        good = case_result(LARGE, fusednn=1.3, roof=2.0, roof_non_temporal=1.0, torch=13, jax=2.6)
        other = LARGE.replace("nchw-32x64x112x112", "nc-8192x1024")
        bad = case_result(other, fusednn=2.0, roof=2.0, roof_non_temporal=1.0, torch=8, jax=8)
        small = case_result(SMALL, fusednn=9e-6, roof=1.0, roof_non_temporal=1.0, torch=9.0)
        found = [r for r in reached(results_of(good, bad, small)) if r.values]
        assert [(r.target.figure.name, r.values, r.met) for r in found] == [
            ("time / non-temporal copy", [2.0, 1.3], 1),
            ("x torch eager", [4.0, 10.0], 1),
            ("x the best peer", [2.0, 4.0], 1),
            ("us a call", [9.0], 0),
        ]
        assert found[0].median == 1.65

    def test_what_is_large_depends_on_the_last_cache_level(self) -> None:
        results = results_of(case_result(LARGE, fusednn=2.0, roof=1.0, roof_non_temporal=1.0))
        assert any(r.values for r in reached(results))
        results.machine["caches"]["L3"] = 1 << 28
        assert not any(r.values for r in reached(results))

    def test_overhead_threads_neighbour_and_options(self) -> None:
        middle = "batch_norm/backward/nc-256x1024/float32"
        option = "optimizer/adam-l2/2x16M/float32"
        one_thread = case_result(middle, fusednn=1.8, roof=1.9)
        one_thread.threads = 1
        roof_does_not_scale = case_result(SMALL, fusednn=1.8, roof=1.5)
        roof_does_not_scale.threads = 1
        cases = [
            case_result("optimizer/adam/100x32/float32", fusednn=15e-6, roof=4e-6),
            case_result("neighbour/optimizer-adam/100x100x100/float32", fusednn=2.0),
            case_result(option, fusednn=4.0, fusednn_plain=3.0),
            *(one_thread, case_result(middle, fusednn=1.0, roof=1.0)),
            *(roof_does_not_scale, case_result(SMALL, fusednn=1.0, roof=1.0)),
        ]
        cases[1].contenders["fusednn-one-thread"] = timed(3.0)
        by_figure = {r.target.figure.name: r for r in reached(results_of(*cases)) if r.values}
        overhead = by_figure["us beyond the roof"]
        assert overhead.values == pytest.approx([11])
        assert overhead.met == 0
        assert by_figure["x one thread beside the neighbour"].values == [1.5]
        assert by_figure["x the plain optimizer"].values == [0.75]
        threads = by_figure["x one thread / threads, where the roof's is as much"]
        assert threads.values == [0.9]
        assert threads.met == 1

    def test_targets_name_cases_that_exist(self) -> None:
        for target in TARGETS:
            cases = [
                CaseResult(name, 2, 0)
                for name, case in catalogue.all_cases().items()
                if target.holds_for(CaseResult(name, 2, case.traffic), 1 << 25)
            ]
            assert cases, target
            assert {f"{case.family}/{case.variant}" for case in cases} == set(target.variants)

    def test_page(self) -> None:
        good = case_result(LARGE, fusednn=1e-3, roof=5e-4, torch=7e-3)
        wrong = case_result("optimizer/adam/1x1k/float32", fusednn=1e-6, roof=1e-6)
        wrong.contenders["numpy"] = Timing("wrong", "params is off by 1")
        text = page_text(results_of(good, wrong), "a/b.png")
        assert "![Time of each case against the roof](a/b.png)" in text
        assert "| nchw-32x64x112x112 | 2 | 500 us | 1.00 ms | 0% | 205.5 | 0.50 | 7.00 |" in text
        assert "| copy | 21.5 |" not in text  # one column per level
        assert "| copy |  |  | 21.5 |" in text
        assert "x torch eager | >= 6 | 7.00 | 7.00 | 1 of 1 |" in text
        assert "- numpy, wrong: params is off by 1: optimizer/adam/1x1k/float32" in text
        for line in text.splitlines():
            assert not line.startswith("|") or line.endswith("|")

    def test_page_says_what_must_be_known(self) -> None:
        case = case_result(LARGE, fusednn=1.0, roof=1.0, torch=0.5, jax=2.0)
        case.contenders["jax"] = timed(2.0, 0.5, reuses=False)
        case.contenders["jax"].note = "a note"
        case.contenders["onednn"] = Timing("absent", "no oneDNN")
        case.contenders["sklearn"] = timed(0.1)
        case.contenders["sklearn"].checked = False
        case.disturbed = 2
        results = results_of(case)
        results.problems.append("what memory can do: the process ended")
        assert case.best_peer() == ("torch", timed(0.5))
        text = page_text(results)
        assert "| rounds not counted, disturbed | 2 |" in text
        assert "| 0% | 0.2 | 1.00! |" in text
        assert "| 2.00? |" in text
        assert "| jax | fresh | a note (batch_norm) |" in text
        assert "| torch | reused |  |" in text
        assert "- onednn, absent: no oneDNN: 1 cases" in text
        assert f"- {LARGE} (2 threads): torch 2.00 x, sklearn 10.00 x" in text
        assert "- what memory can do: the process ended" in text
        assert "answer was checked; not always so: sklearn." in text
        lines = list(case_lines(case))
        assert lines[0] == f"{LARGE}, 2 threads, 2 disturbed rounds not counted"
        assert any("  torch " in line and "2.00!" in line for line in lines)
        assert any("  jax " in line and "25%?" in line for line in lines)

    def test_times_beside_other_programs_are_no_figures(self) -> None:
        calm = case_result(LARGE, fusednn=1.0, roof=1.0, torch=7.0)
        busy = case_result(
            LARGE.replace("nchw-32x64x112x112", "nchw-32x256x56x56"),
            fusednn=1.0,
            roof=1.0,
            torch=700.0,
        )
        busy.others = 1.26
        text = page_text(results_of(calm, busy))
        assert "x torch eager | >= 6 | 7.00 | 7.00 | 1 of 1, 1 beside other programs |" in text
        assert "| cases beside busy other programs | 1 |" in text
        assert "| nchw-32x256x56x56? | 2 |" in text
        assert "x torch eager | >= 6 | the machine was busy |  |  |" in page_text(results_of(busy))
        assert next(case_lines(busy)).endswith("2 threads, OTHER PROGRAMS TOOK 1.3 CPUs")

    def test_what_is_little_faster_than_the_roof_is_noise(self) -> None:
        case = case_result(LARGE, fusednn=1.0, roof=1.04)
        assert list(case.above_roof()) == []
        case.contenders["roof"] = timed(1.2)
        assert dict(case.above_roof()) == {"fusednn": 1.2}
        case.contenders["roof"] = timed(1.2, 0.4)
        assert list(case.above_roof()) == []

    def test_picture_of_another_dtype(self) -> None:
        short = case_result(LARGE.replace("float32", "bfloat16"), fusednn=1.0, roof=1.0)
        assert panels(results_of(short)) == {"batch norm: forward": [short]}

    def test_picture(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        results = results_of(
            case_result(LARGE, fusednn=1e-3, roof=2e-3, torch=7e-3),
            case_result(LARGE.replace("float32", "float64"), fusednn=1.0, roof=1.0),
        )
        assert {title: len(cases) for title, cases in panels(results).items()} == {
            "batch norm: forward": 1
        }
        draw(results, tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(ValueError, match="nothing to draw"):
            draw(results_of(), tmp_path / "b.png")
