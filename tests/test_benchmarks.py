"""The benchmark suite: what it checks, counts and says; speeds are not judged here."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn.benchmarks import bandwidth, catalogue, check, shapes, statistics
from fusednn.benchmarks.case import Case, Stream
from fusednn.benchmarks.library import Library, LibraryError
from fusednn.benchmarks.machine import built_from, cache_sizes
from fusednn.benchmarks.measure import FORMS, Settings, measure
from fusednn.benchmarks.optimizers import OPTIMIZERS
from fusednn.benchmarks.peers import fusednn_neighbour, numpy_batch_norm, select_peers
from fusednn.benchmarks.results import CaseResult, Results
from fusednn.benchmarks.samples import SLACK
from fusednn.benchmarks.table import case_lines
from fusednn.benchmarks.workbench import Workbench
from fusednn.cli import main

SMALL = "batch_norm/forward/nc-32x100/float32"


def case_named(name: str) -> Case:
    return catalogue.all_cases()[name]


#: Processes work side by side; in one process they would share the inputs.
ONE_AT_A_TIME = threading.Lock()


class InProcess(Library):
    """A library without a process: its workbench answers directly."""

    def __init__(self, name: str, threads: int = 1) -> None:
        super().__init__(name, threads)
        self.bench = Workbench(name)
        self.asked: list[str] = []

    def ask(self, do: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        self.asked.append(do if do != "time" else arguments["name"])
        with ONE_AT_A_TIME:
            reply = getattr(self.bench, do)(**arguments)
        return json.loads(json.dumps(reply))


BRIEF = Settings(turn=1e-4, budget=3e-4, turns=(2, 3))


def cpu_seconds(process: int) -> float:
    """User time of another process, from proc(5)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def measured(name: str, settings: Settings = BRIEF, *peers: str) -> CaseResult:
    chosen = select_peers(list(peers) or ["numpy", "fusednn"])
    libraries = {peer.process: InProcess(peer.library) for peer in chosen}
    return measure(catalogue.case_named(name), chosen, libraries, settings)


class TestMeasure:
    @pytest.mark.parametrize("variant", ["forward", "backward", "both", "inference", "in_place"])
    @pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
    def test_batch_norm_is_right(self, variant: str, dtype: str) -> None:
        result = measured(f"batch_norm/{variant}/nc-32x100/{dtype}", FORMS["smoke"])
        statuses = {timing.status for timing in result.contenders.values()}
        assert statuses <= {"right", "absent"}
        assert result.contenders["fusednn"].status == "right"
        told = [line for line in case_lines(result) if line.startswith("  absent: numpy: ")]
        numpy = "absent" if variant == "in_place" or dtype.endswith("16") else "right"
        assert result.contenders["numpy"].status == numpy
        assert len(told) == (numpy == "absent")

    @pytest.mark.parametrize(
        ("variant", "dtype"),
        [
            (variant, dtype)
            for variant, optimizer in OPTIMIZERS.items()
            for dtype in shapes.ITEM_SIZES
            if optimizer.takes(dtype)
        ],
    )
    def test_optimizers_are_right(self, variant: str, dtype: str) -> None:
        result = measured(f"optimizer/{variant}/1x1k/{dtype}", FORMS["smoke"])
        names = {n for n, timing in result.contenders.items() if timing.status == "right"}
        assert not [t for t in result.contenders.values() if t.status in ("wrong", "failed")]
        optimizer = OPTIMIZERS[variant]
        plain = {"fusednn-plain"} if optimizer.plain else set()
        numpy = {"numpy"} if dtype in ("float32", "float64") and not optimizer.quantized else set()
        assert names == {"roof", "fusednn", *plain, *numpy}

    @pytest.mark.parametrize(
        ("variant", "without"),
        [
            ("adamw", {"weight_decay": 0.0}),
            ("adam-l2", {"weight_decay": 0.0}),
            ("adam-l2", {"decoupled": True}),
            ("momentum-clip", {"max_norm": None}),
            ("adam-clip", {"max_norm": None}),
            ("adam-clip-each", {"max_norm_each": None}),
            ("nadam", {"hyperparameters": {"momentum_decay": 4e-3}}),
            ("momentum-clip-value", {"clip_value": None}),
            ("momentum-grad-scale", {"grad_scale": None}),
            ("adam-ema", {"ema_momentum": 0.0}),
            ("momentum", {"hyperparameters": {"momentum": 0.0}}),
        ],
    )
    def test_an_option_left_out_is_found(
        self, variant: str, without: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = dataclasses.replace(OPTIMIZERS[variant], **without)
        name = "fusednn.benchmarks.peers.fusednn_optimizer.OPTIMIZERS"
        monkeypatch.setattr(name, OPTIMIZERS | {variant: wrong})
        result = measured(f"optimizer/{variant}/1x1k/float32", FORMS["smoke"])
        assert result.contenders["fusednn"].status == "wrong"
        assert result.contenders["numpy"].status == "right"

    def test_a_neighbour_takes_a_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if len(os.sched_getaffinity(0)) < 2:
            pytest.skip("needs two CPUs")
        neighbours = []
        popen = subprocess.Popen

        def note(*arguments: Any, **options: Any) -> Any:
            neighbours.append(popen(*arguments, **options))
            return neighbours[-1]

        monkeypatch.setattr("fusednn.benchmarks.peers.fusednn_neighbour.subprocess.Popen", note)
        threads = fusednn.get_num_threads()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        with fusednn_neighbour.busy(max(os.sched_getaffinity(0)), one_thread=True):
            assert fusednn.get_num_threads() == 1
            assert neighbours[0].poll() is None
            # Where others want this CPU too, its share comes late.
            until = time.monotonic() + 20
            while cpu_seconds(neighbours[0].pid) < 0.2 and time.monotonic() < until:
                time.sleep(0.02)
        assert neighbours[0].poll() is not None
        assert fusednn.get_num_threads() == threads
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before > 0.1

    def test_neighbour_cases_are_right(self) -> None:
        name = "neighbour/optimizer-adam/100x100x100:small/float32"
        contenders = measured(name, FORMS["smoke"]).contenders
        expected = "right" if len(os.sched_getaffinity(0)) > 1 else "absent"
        ours = ("fusednn", "fusednn-alone", "fusednn-one-thread")
        assert {n: t.status for n, t in contenders.items()} == dict.fromkeys(ours, expected)

    def test_a_wrong_answer_is_told_and_not_timed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(numpy_batch_norm, "EPS", 0.1)
        result = measured(SMALL)
        timing = result.contenders["numpy"]
        assert timing.status == "wrong"
        assert timing.reason.startswith("y is off by 0.0")
        assert timing.seconds == 0
        assert result.best_peer() is None
        assert result.contenders["fusednn"].timed
        assert any("wrong: y is off by" in line for line in case_lines(result))

    def test_a_wrong_optimizer_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name = "fusednn.benchmarks.peers.numpy_optimizer.LEARNING_RATES"
        monkeypatch.setattr(name, {"float32": 0.0101})
        result = measured("optimizer/adam/1x1k/float32", FORMS["smoke"])
        assert result.contenders["numpy"].status == "wrong"

    def test_an_error_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(numpy_batch_norm.PlainBatchNorm, "forward")
        timing = measured(SMALL).contenders["numpy"]
        assert timing.status == "failed"
        assert timing.reason.startswith("AttributeError: ")

    def test_contenders_take_turns(self) -> None:
        chosen = select_peers(["numpy"])
        bench = InProcess("fusednn")
        libraries: dict[str, Library] = {"fusednn": bench, "numpy": InProcess("numpy")}
        result = measure(case_named(SMALL), chosen, libraries, BRIEF)
        others = ("prepare", "warm_up", "release")
        order = [name for name in bench.asked if name not in others]
        assert order[:8] == ["roof", "roof-non-temporal", "fusednn", "fusednn-fresh"] * 2
        for timing in result.contenders.values():
            assert timing.timed
            assert 2 <= timing.turns <= 3
            assert 0 < timing.low <= timing.seconds <= timing.high

    def test_output_buffers_are_told(self) -> None:
        contenders = measured(SMALL, FORMS["smoke"]).contenders
        assert contenders["fusednn"].reuses
        assert not contenders["fusednn-fresh"].reuses

    def test_every_pass_over_memory_runs(self) -> None:
        bench = Workbench("fusednn")
        for name in bandwidth.PASSES:
            assert bench.prepare_pass(name, 1 << 16)["seconds"] > 0
            assert 0 < bandwidth.stream_of(name, 1 << 16).traffic <= 2 * (1 << 16)

    def test_working_sets_lie_where_they_should(self) -> None:
        sets = bandwidth.working_sets({"L2": 1 << 20, "L3": 1 << 25})
        assert sets["L2"] < 1 << 20 < sets["L3"] < 1 << 25 < sets["memory"]


class TestLibrary:
    def test_process_has_its_threads_and_answers(self, tmp_path: Path) -> None:
        with Library("numpy", 1) as library:
            answer = str(tmp_path / "answer.npz")
            reply = library.ask("prepare", 60, case=SMALL, name="numpy", answer=answer)
            assert reply["status"] == "ready", reply
            assert library._process is not None
            assert len(os.sched_getaffinity(library._process.pid)) == 1
            assert np.load(answer)["y"].shape == (32, 3)
            assert library.ask("versions", 60)["numpy"] == np.__version__
        assert not library.running

    def test_silence_ends_the_process_and_the_next_request_starts_anew(self) -> None:
        with Library("numpy", 1) as library:
            with pytest.raises(LibraryError, match="did not answer within 0 s"):
                library.ask("versions", 0)
            assert not library.running
            assert library.ask("versions", 60)

    def test_death_is_told(self) -> None:
        with Library("numpy", 1) as library:
            with pytest.raises(LibraryError, match="the process ended"):
                library.ask("no such request", 60)
            assert library.ask("versions", 60)


class TestStatistics:
    def test_one_disturbed_turn_moves_little(self) -> None:
        summary = statistics.summarise([[1.0, 1.1, 9.0], [1.0], [50.0], [1.2], [1.0]])
        assert summary.median == 1.1
        assert (summary.low, summary.high) == (1.0, 1.2)

    @pytest.mark.parametrize("seconds", [0.0, 1e-7, 1e-5, 1e-3, 0.1, 10.0])
    def test_pace_keeps_to_the_budget(self, seconds: float) -> None:
        pace = statistics.Pace.of(seconds, turn=0.02, budget=0.25, turns=(4, 9))
        assert pace.batch >= 1
        assert 1 <= pace.calls <= 50
        assert 4 <= pace.turns <= 9
        if seconds >= 0.02:
            assert (pace.batch, pace.calls, pace.turns) == (1, 1, 4 if seconds > 0.05 else 9)
        assert pace.batch * seconds <= 0.002 or pace.batch == 1


class TestCommand:
    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        command = ["bench", "--list", "step", "--threads", "1,1", "--peers", "numpy,fusednn"]
        assert main(command) == 0
        said = capsys.readouterr().out
        assert said.startswith("step/adam/784-300-100-10-batch32/float32  threads=1\n")
        assert said.count("step/adam/784-300-100-10-batch32/float32 ") == 1
        assert "numpy" in said
        assert "torch-compile" not in said

    def test_smoke(self, capsys: pytest.CaptureFixture[str]) -> None:
        cases = [SMALL, "optimizer/adam", "step", "leaky_relu/forward"]
        assert main(["bench", "--smoke", "--peers", "numpy", "--dtypes", "float32", *cases]) == 0
        said = capsys.readouterr().out
        chosen = catalogue.select(cases, ["float32"], [], len(os.sched_getaffinity(0)), "smoke")
        assert said.count("  fusednn             right") == len(chosen)
        assert said.count("  numpy               right") == len(chosen)

    def test_run_then_page(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("matplotlib")
        path, page, picture = (tmp_path / name for name in ("a.json", "a.md", "a.png"))
        command = ["bench", SMALL, "--peers", "numpy", "--threads", "1", "--quick"]
        assert main([*command, "--json", str(path)]) == 0
        assert "fusednn is" in capsys.readouterr().out
        results = Results.read(path)
        assert [case.name for case in results.cases] == [SMALL]
        assert results.cases[0].ours is not None
        assert {b.level for b in results.bandwidths} == set(bandwidth.LEVELS)
        assert results.versions["numpy"] == np.__version__
        assert main(["bench", "page", str(path), "--page", str(page)]) == 0
        assert SMALL.split("/")[2] in page.read_text()
        assert main(["bench", "page", str(path), "--picture", str(picture)]) == 0
        assert picture.is_file()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nothing"], "no case fits 'nothing'"),
            (["--peers", "mxnet"], "--peers must be among"),
            (["--dtypes", "int8"], "--dtypes must be among float32, bfloat16, float16, float64"),
            (["--without", "fusednn"], "--without cannot leave out fusednn"),
            (["--smoke", "--picture", "a.png"], "--picture shows times, and --smoke takes none"),
            (["--threads", "0"], "must be numbers from 1 to"),
            (["--threads", "two"], "with commas between them. Received: 'two'"),
            (["--threads", "4097"], "must be numbers from 1 to"),
            (["--json", "no/such/folder/a.json"], "the folder must exist"),
            (["--json", "."], "must be a file. Received: a folder"),
            (["compare", "a.json", "b.json", "--json", "c"], "--json has no effect with compare"),
            (["compare", "a.json", "b.json", "--quick"], "--quick has no effect with compare"),
            (["page", "a.json", "--threads", "1"], "--threads has no effect with page"),
            (["--list", "--page", "a.md"], "--page has no effect with --list"),
            (["page", "a.json"], "page takes one file, and --page or --picture"),
        ],
    )
    def test_refusals(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", *arguments]) == 2
        assert message in capsys.readouterr().err

    def test_a_wrong_answer_fails_the_smoke_form(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(numpy_batch_norm, "EPS", 0.1)
        monkeypatch.setattr("fusednn.benchmarks.run.Library", InProcess)
        assert main(["bench", "--smoke", "--peers", "numpy", SMALL]) == 2
        assert "1 answers are wrong or missing: batch_norm/forward" in capsys.readouterr().err


def test_a_stream_counts_updates_twice() -> None:
    assert Stream(1, 3, 0, 10).traffic == 70
    assert Stream(2, 0, 1, 10).traffic == 30


def test_differences_are_found() -> None:
    case = case_named(SMALL)
    right = {"y": np.ones((2, 2))}
    assert check.difference(case, {"y": np.ones((2, 2)) + 1e-5}, right) == ""
    assert check.difference(case, {}, right) == "y is missing"
    assert "has shape (2,)" in check.difference(case, {"y": np.ones(2)}, right)
    assert "off by 0.001" in check.difference(case, {"y": np.ones((2, 2)) + 1e-3}, right)
    slack = {**right, "y" + SLACK: np.array([[np.inf, 0], [0, 0]])}
    assert check.difference(case, {"y": np.array([[5.0, 1], [1, 1]])}, slack) == ""
    assert "off by 4" in check.difference(case, {"y": np.array([[1.0, 5], [1, 1]])}, slack)
    assert check.difference(case, {"y": np.full((2, 2), np.nan)}, right) == "y is not finite"


class TestMachine:
    def test_commit_of_a_build(self, tmp_path: Path) -> None:
        (tmp_path / "commit.txt").write_text("0123456789ab+\n")
        assert built_from(tmp_path / "commit.txt") == "0123456789ab+"
        assert built_from(tmp_path / "no such file") == "unknown"

    def test_caches_as_linux_lists_them(self, tmp_path: Path) -> None:
        for index, (level, size) in enumerate([("1", "32K"), ("2", "512K"), ("3", "16384K")]):
            folder = tmp_path / f"index{index}"
            folder.mkdir()
            (folder / "level").write_text(level + "\n")
            (folder / "size").write_text(size + "\n")
        assert cache_sizes(tmp_path) == {"L2": 512 << 10, "L3": 16 << 20}

    def test_usual_caches_where_nothing_is_listed(self, tmp_path: Path) -> None:
        assert cache_sizes(tmp_path) == {"L2": 1 << 20, "L3": 1 << 25}
