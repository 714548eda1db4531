"""The benchmark suite: what it selects, checks, counts and says; speeds are not judged here."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn.benchmarks import bandwidth, catalogue, check, inputs, shapes, statistics
from fusednn.benchmarks.case import Case, Stream
from fusednn.benchmarks.library import Library, LibraryError
from fusednn.benchmarks.machine import built_from, cache_sizes
from fusednn.benchmarks.measure import FORMS, Settings, measure
from fusednn.benchmarks.optimizers import OPTIMIZERS
from fusednn.benchmarks.peers import PEERS, fusednn_neighbour, numpy_batch_norm, select_peers
from fusednn.benchmarks.results import CaseResult, Results
from fusednn.benchmarks.table import report_lines
from fusednn.benchmarks.workbench import Workbench
from fusednn.cli import main

SMALL = "batch_norm/forward/nc-32x100/float32"


def case_named(name: str) -> Case:
    return catalogue.all_cases()[name]


class TestCases:
    def test_names_are_unique_and_say_everything(self) -> None:
        for name, case in catalogue.all_cases().items():
            assert name == f"{case.family}/{case.variant}/{case.subject}/{case.dtype}"

    @pytest.mark.parametrize(
        ("name", "elements_moved", "count", "item"),
        [
            ("batch_norm/forward/nc-32x100/float32", 2, 3200, 4),
            ("batch_norm/inference/nc-32x100/bfloat16", 2, 3200, 2),
            ("batch_norm/backward/nc-32x100/float64", 3, 3200, 8),
            ("batch_norm/both/nc-32x100/float32", 5, 3200, 4),
            ("batch_norm/in_place/nc-32x100/float32", 5, 3200, 4),
            ("leaky_relu/backward/nc-32x100/float32", 3, 3200, 4),
            ("optimizer/sgd/1x1k/float32", 3, 1024, 4),
            ("optimizer/momentum/1x1k/float32", 5, 1024, 4),
            ("optimizer/rmsprop-centered/1x1k/float32", 7, 1024, 4),
            ("optimizer/adam/1x1k/float32", 7, 1024, 4),
            ("optimizer/adam-clip/1x1k/float32", 8, 1024, 4),
            ("optimizer/amsgrad/1x1k/bfloat16", 9, 1024, 2),
            ("optimizer/adam-ema/1x1k/float32", 9, 1024, 4),
            ("optimizer/adam-skip-nonfinite/1x1k/float32", 8, 1024, 4),
            ("optimizer/adam-clip-value/1x1k/float32", 7, 1024, 4),
            # States in 1 + 4/256 bytes, a copy in 2 bytes, float32 states of float16.
            ("optimizer/adam-8bit/1x1k/float32", 3 + 4 * (1 + 1 / 64) / 4, 1024, 4),
            ("optimizer/adam-low-precision-copy/1x1k/float32", 7 + 1, 1024, 4),
            ("optimizer/adam/1x1k/float16", 3 + 4 * 2, 1024, 2),
            ("neighbour/batch_norm-forward/nc-8192x1024/float32", 2, 1 << 23, 4),
        ],
    )
    def test_traffic(self, name: str, elements_moved: float, count: int, item: int) -> None:
        assert case_named(name).traffic == elements_moved * count * item

    def test_resnet50_is_complete(self) -> None:
        assert len(shapes.LISTS["resnet50"]) == 161
        assert shapes.size_of(shapes.LISTS["resnet50"]) == 25_557_032

    def test_patterns(self) -> None:
        case = case_named(SMALL)
        assert case.matches(["batch_norm"])
        assert case.matches(["*/forward/nc-*/float32"])
        assert case.matches(["nothing", SMALL])
        assert not case.matches(["forward"])
        assert not case.matches(["batch"])

    def test_forms(self) -> None:
        def names(form: str) -> set[tuple[str, int]]:
            return {(c.name, n) for c, n in catalogue.select([], [], [], 2, form)}

        full, default, quick = names("full"), names("default"), names("quick")
        one_too = {name for name in catalogue.all_cases() if not name.startswith("neighbour")}
        assert full == {(n, 2) for n in catalogue.all_cases()} | {(n, 1) for n in one_too}
        assert quick < default < full
        assert all(name.endswith("/float32") and n == 2 for name, n in quick)
        assert {name.split("/")[3] for name, _ in default} == set(shapes.ITEM_SIZES)
        assert {n for _, n in default} == {1, 2}

    def test_smoke_has_small_forms_of_all_that_a_default_run_has(self) -> None:
        def kinds(cases: Any) -> set[tuple[str, str, str]]:
            return {(c.family, c.variant, c.dtype) for c in cases}

        smoke = [case for case, _ in catalogue.select([], [], [], 2, "smoke")]
        assert kinds(smoke) == kinds(catalogue.all_cases().values())
        assert all(case.subject.endswith(shapes.SMALL) for case in smoke)
        assert max(case.traffic for case in smoke) < 1 << 21
        names = {case.name.replace(shapes.SMALL, "") for case in smoke}
        timed = {case.name for case, _ in catalogue.select([], [], [], 2, "quick")}
        assert timed <= names
        layouts = {case.subject for case in smoke if case.family == "batch_norm"}
        assert {name.removesuffix(shapes.SMALL) for name in layouts} == {
            *shapes.full_size(shapes.LAYOUTS)
        }

    def test_small_forms_keep_the_structure(self) -> None:
        for name in shapes.full_size(shapes.LAYOUTS):
            layout, small = shapes.LAYOUTS[name], shapes.LAYOUTS[name + shapes.SMALL]
            assert len(small.shape) == len(layout.shape)
            assert small.channel_axis == layout.channel_axis
            rows = [len(s.shape) > 2 or s.shape[0] >= s.channels for s in (layout, small)]
            assert rows[0] == rows[1]
        for name in shapes.full_size(shapes.MODELS):
            model, small_model = shapes.MODELS[name], shapes.MODELS[name + shapes.SMALL]
            assert len(small_model.widths) == len(model.widths)
            assert small_model.batch == model.batch
        for name in shapes.full_size(shapes.LISTS):
            ranks = [{len(s) for s in shapes.LISTS[n]} for n in (name, name + shapes.SMALL)]
            assert ranks[0] == ranks[1]

    def test_options_are_thinned_out_unless_they_are_named(self) -> None:
        def subjects(patterns: list[str]) -> set[str]:
            return {c.subject for c, _ in catalogue.select(patterns, [], [], 2, "quick")}

        assert subjects(["optimizer/adam-ema"]) == {*shapes.full_size(shapes.LISTS)}
        default = catalogue.select([], [], [], 2)
        assert {c.subject for c, _ in default if c.variant == "adam-ema"} == {"2x16M", "500x32"}
        assert {c.variant for c, _ in default if c.subject == "100x32"} == {"adam"}
        assert {c.dtype for c, _ in default if c.variant == "adam-stochastic-rounding"} == {
            "bfloat16"
        }

    def test_what_is_said_goes_before_the_form(self) -> None:
        chosen = catalogue.select([SMALL.replace("float32", "*")], ["float64"], [1], 2, "quick")
        assert [(case.dtype, threads) for case, threads in chosen] == [("float64", 1)]

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="no case fits 'batchnorm': names are like"):
            catalogue.select(["batch_norm", "batchnorm"], [], [], 2)
        with pytest.raises(ValueError, match="no case is left"):
            catalogue.select(["step"], ["bfloat16"], [], 2)
        with pytest.raises(KeyError):
            catalogue.case_named("batch_norm/forward/nc-1x1/float32")

    def test_one_cpu_runs_each_case_once(self) -> None:
        chosen = catalogue.select([SMALL], [], [], 1)
        assert [threads for _, threads in chosen] == [1]


class TestPeers:
    def test_libraries_have_a_module_for_each_family(self) -> None:
        folder = Path(numpy_batch_norm.__file__).parent
        for peer in PEERS:
            for family in peer.families:
                assert (folder / f"{peer.library}_{family}.py").is_file()

    def test_selection(self) -> None:
        always = ["roof", "roof-non-temporal", "fusednn"]
        assert [peer.name for peer in select_peers(["numpy"])] == [*always, "numpy"]
        ours = [p.name for p in select_peers(["fusednn"], ["fusednn-fresh"])]
        assert ours == [*always, "fusednn-plain", "fusednn-alone", "fusednn-one-thread"]
        assert {"numpy", "sklearn"} <= {peer.name for peer in select_peers([])}

    def test_refusals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ValueError, match=r"--peers must be among fusednn, .*Received: mxnet"):
            select_peers(["mxnet"])
        with pytest.raises(ValueError, match=r"--without must be among .*Received: roof"):
            select_peers([], ["roof"])
        with pytest.raises(ValueError, match="--without cannot leave out fusednn, which all"):
            select_peers([], ["fusednn"])
        monkeypatch.setattr("fusednn.benchmarks.peers.find_spec", lambda name: None)
        with pytest.raises(ValueError, match="jax needs jax, optax, which is not installed"):
            select_peers(["jax"])


class TestInputs:
    def test_same_numbers_every_time_and_aligned(self) -> None:
        first = inputs.activations(case_named(SMALL))
        inputs.forget()
        second = inputs.activations(case_named(SMALL))
        assert first.x is not second.x
        np.testing.assert_array_equal(first.x, second.x)
        assert second.x.ctypes.data % 64 == 0
        assert not np.array_equal(second.x, second.grad)

    def test_long_arrays_repeat_a_prime_number_of_values(self) -> None:
        x = inputs.normals(0, (2, 1_100_000), np.dtype(np.float32))
        period = 1_048_573
        np.testing.assert_array_equal(x.reshape(-1)[period : 2 * period], x.reshape(-1)[:period])
        assert abs(float(x.mean())) < 0.01
        assert abs(float(x.std()) - 1) < 0.01

    def test_gradients_keep_their_distance_from_0(self) -> None:
        grads = inputs.lists(case_named("optimizer/adam/1x1k/float32")).grads
        assert min(float(np.abs(grad).min()) for grad in grads) >= 0.125

    def test_second_gradients_are_the_first_reversed(self) -> None:
        grad = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.testing.assert_array_equal(inputs.turned([grad])[0], [[5, 4, 3], [2, 1, 0]])


class InProcess(Library):
    """A library without a process: its workbench answers directly."""

    def __init__(self, name: str, threads: int = 1) -> None:
        super().__init__(name, threads)
        self.bench = Workbench(name)
        self.asked: list[str] = []

    def ask(self, do: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        self.asked.append(do if do != "time" else arguments["name"])
        reply = getattr(self.bench, do)(**arguments)
        return json.loads(json.dumps(reply))


BRIEF = Settings(turn=1e-4, budget=3e-4, turns=(2, 3))


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
        numpy = "absent" if variant == "in_place" or dtype.endswith("16") else "right"
        assert result.contenders["numpy"].status == numpy

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
            time.sleep(0.3)
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
        assert any("wrong: y is off by" in line for line in report_lines([result]))

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
        assert order[:6] == ["roof", "roof-non-temporal", "fusednn"] * 2
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
        assert main(["bench", "--list", "step", "--threads", "1"]) == 0
        said = capsys.readouterr().out
        assert said.startswith("step/adam/784-300-100-10-batch32/float32  threads=1\n")
        assert "torch-compile" in said

    def test_smoke(self, capsys: pytest.CaptureFixture[str]) -> None:
        cases = [SMALL, "optimizer/adam", "step", "leaky_relu/forward"]
        assert main(["bench", "--smoke", "--peers", "numpy", "--dtypes", "float32", *cases]) == 0
        said = capsys.readouterr().out
        chosen = catalogue.select(cases, ["float32"], [], len(os.sched_getaffinity(0)), "smoke")
        assert said.count("  fusednn           right") == len(chosen)
        assert said.count("  numpy             right") == len(chosen)

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
            (["--threads", "0"], "must be from 1 to"),
            (["--threads", "4097"], "must be from 1 to"),
            (["--json", "no/such/folder/a.json"], "the folder must exist"),
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
    slack = {**right, "y" + check.SLACK: np.array([[np.inf, 0], [0, 0]])}
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
