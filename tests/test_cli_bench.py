"""`fusednn bench`: every option beside every other, the progress bar, and what is refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from fusednn.benchmarks import catalogue
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.peers import PEERS
from fusednn.benchmarks.results import CaseResult, Results, Timing
from fusednn.cli import main

SMALL = "batch_norm/forward/nc-32x100/float32"
KNOWN = catalogue.all_cases()
TWO = ["leaky_relu/forward/nc-32x100", "optimizer/adam/1x1k"]


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusednn.benchmarks.peers.find_spec", lambda name: object())
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[str], set[str]]:
    """The lines of cases and the names of peers that ``--list`` prints."""
    assert main(["bench", "--list", *arguments]) == 0
    cases, _, peers = capsys.readouterr().out.partition("\npeers:\n")
    return cases.splitlines(), {line.split()[0] for line in peers.splitlines()}


@pytest.mark.usefixtures("all_installed")
@pytest.mark.parametrize("patterns", [[], TWO], ids=["all", "two"])
@pytest.mark.parametrize("threads", ["", "1", "1,2"])
@pytest.mark.parametrize("dtypes", ["", "float64", "float32,bfloat16"])
@pytest.mark.parametrize("form", ["", "--quick", "--full", "--smoke"])
def test_options_choose_cases(
    capsys: pytest.CaptureFixture[str], patterns: list[str], threads: str, dtypes: str, form: str
) -> None:
    """Each says what it says alone, whatever else is given."""
    given = {"--threads": threads, "--dtypes": dtypes}
    arguments = [word for option, value in given.items() if value for word in (option, value)]
    lines, peers = listed(capsys, *patterns, *arguments, *[form] * bool(form))
    assert len(set(lines)) == len(lines)
    cases = [line.split("  threads=") for line in lines]
    names = [name.split("/") for name, _ in cases]
    assert {subject.endswith(":small") for _, _, subject, _ in names} == {form == "--smoke"}
    for family, variant, subject, dtype in names:
        assert "/".join((family, variant, subject.removesuffix(":small"), dtype)) in KNOWN
    found = {dtype for *_, dtype in names}
    if dtypes:
        assert found == set(dtypes.split(","))
    elif form == "--quick":
        assert found == {"float32"}
    elif form in ("--full", "--smoke"):
        assert found == {"float32", "bfloat16", "float16", "float64"}
    counts = {count for _, count in cases}
    if threads:
        assert counts == set(threads.split(","))
    elif form in ("--quick", "--smoke"):
        assert counts == {"2"}
    if patterns:
        subjects = {"/".join(name[:3]).removesuffix(":small") for name in names}
        assert subjects == set(patterns)
    assert peers == {peer.name for peer in PEERS if not peer.is_roof}


@pytest.mark.usefixtures("all_installed")
@pytest.mark.parametrize("form", [[], ["--smoke"]], ids=["timed", "smoke"])
@pytest.mark.parametrize("chosen", ["", "numpy", "numpy,torch-fused", "keras-jax"])
@pytest.mark.parametrize("left_out", ["", "fusednn-fresh", "numpy,fusednn-plain"])
def test_options_choose_peers(
    capsys: pytest.CaptureFixture[str], form: list[str], chosen: str, left_out: str
) -> None:
    arguments = [*(["--peers", chosen] if chosen else []), *form]
    arguments += ["--without", left_out] if left_out else []
    _, peers = listed(capsys, SMALL, *arguments)
    wanted = {peer.name for peer in PEERS if not peer.is_roof}
    if chosen:
        own = {peer.name for peer in PEERS if peer.library == "fusednn" and not peer.is_roof}
        wanted = own | set(chosen.split(","))
    assert peers == wanted - set(left_out.split(","))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quick", "--full"], "not allowed with argument"),
        (["--smoke", "--quick"], "not allowed with argument"),
        (["--dtypes", "float32,int8"], "--dtypes must be among"),
        (["--peers", "numpy,mxnet"], "Received: mxnet"),
        (["--without", "numpy,mxnet"], "--without must be among"),
        ([SMALL, "batch_nrom"], "no case fits 'batch_nrom'"),
        (["step", "--dtypes", "float64"], "no case is left: see --list, --dtypes and --threads"),
        (["--threads", ""], "must be numbers from 1 to"),
        (["--threads", "1,x"], "Received: '1,x'"),
        (["--list", "--json", "a.json"], "--json has no effect with --list"),
        (["--list", "--picture", "a.png"], "--picture has no effect with --list"),
        (["page", "a.json", "--json", "b.json"], "--json has no effect with page"),
        (["page", "a.json", "--list"], "--list has no effect with page"),
        (["page", "a.json", "b.json", "--page", "c.md"], "page takes one file"),
        (["page", "a.json", "--page", "no/such/folder/a.md"], "the folder must exist"),
        (["compare", "a.json", "b.json", "--peers", "numpy"], "--peers has no effect with compare"),
        (["compare", "a.json", "b.json", "--threads", "1"], "--threads has no effect with compare"),
        (["compare", "a.json", "b.json", "--page", "c.md"], "--page has no effect with compare"),
        (["compare", "no such.json", "b.json"], "no such.json"),
        (["compare"], "compare takes two files: fusednn bench compare OLD.json NEW.json"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What is not refused must not take hours.
    monkeypatch.setattr("fusednn.benchmarks.run.run", lambda *a, **k: Results({}, {}, "", "", {}))
    try:
        status: Any = main(["bench", *arguments])
    except SystemExit as left:  # argparse's own
        status = left.code
    assert status == 2
    assert message in capsys.readouterr().err


class Terminal(io.StringIO):
    """Standard error as a terminal would be."""

    def isatty(self) -> bool:
        return True


def without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have cases done at once."""

    def measure(case: Case, peers: Any, libraries: Any, settings: Any) -> CaseResult:
        timing = Timing("timed", seconds=1e-6, low=1e-6, high=1e-6, turns=3)
        names = [peer.name for peer in peers if case.family in peer.families]
        return CaseResult(case.name, 1, case.traffic, dict.fromkeys(names, timing))

    monkeypatch.setattr("fusednn.benchmarks.run.measure", measure)
    monkeypatch.setattr("fusednn.benchmarks.run._bandwidths", lambda library, settings: [])


def test_progress_is_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_measuring(monkeypatch)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    command = ["bench", *TWO, "--dtypes", "float32", "--threads", "1", "--peers", "numpy"]
    assert main(command) == 0
    shown = terminal.getvalue()
    assert "0/2" in shown
    assert "2/2" in shown
    assert f"last: {TWO[1]}/float32" in shown
    assert "case/s" in shown or "s/case" in shown
    # And nothing of it where the output goes to a file, which has each case once.
    monkeypatch.undo()
    without_measuring(monkeypatch)
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert [said.out.count(f"{name}/float32, 1 thread") for name in TWO] == [1, 1]


def test_a_run_writes_all_that_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    without_measuring(monkeypatch)
    (tmp_path / "docs").mkdir()
    files = {
        "--json": tmp_path / "run.json",
        "--picture": tmp_path / "run.png",
        "--page": tmp_path / "docs/run.md",
    }
    command = ["bench", *TWO, "--quick", "--peers", "numpy", "--without", "fusednn-fresh"]
    for option, path in files.items():
        command += [option, str(path)]
    assert main(command) == 0
    results = Results.read(files["--json"])
    assert [case.name for case in results.cases] == [f"{name}/float32" for name in TWO]
    assert {"fusednn", "numpy"} <= set(results.cases[0].contenders)
    assert "fusednn-fresh" not in results.cases[0].contenders
    assert results.commit
    assert {"processor", "cpus", "caches", "memory", "system"} <= set(results.machine)
    assert {"fusednn", "python"} <= set(results.versions)
    assert files["--picture"].read_bytes().startswith(b"\x89PNG")
    text = files["--page"].read_text()
    assert "![Time of each case against the roof](../run.png)" in text
    # The same page from the file alone.
    again = tmp_path / "docs/again.md"
    assert main(["bench", "page", str(files["--json"]), "--page", str(again)]) == 0
    assert again.read_text() == text.replace(
        "![Time of each case against the roof](../run.png)\n\n", ""
    )
    # The table on the way: time, GB/s, fraction of the roof, ratio to each peer, buffers.
    said = capsys.readouterr().out
    head, line = said.splitlines()[0], next(x for x in said.splitlines() if "  numpy " in x)
    assert head.split("  ")[-1] == "output"
    assert line.split() == ["numpy", "1.00", "us", "0%", "25.6", "1.00", "1.00", "x", "fresh"]
