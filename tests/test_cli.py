"""The command line: what every command shares, `fusednn info`, what help may load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import fusednn
from fusednn import openblas
from fusednn.cli import main, train


class TestCommand:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"fusednn {fusednn.__version__}\n"

    def test_without_a_command_prints_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert {"info", "train"} <= set(capsys.readouterr().out.split())

    def test_options_of_compiler_and_linker(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fusednn.embedding.compile_flags", lambda: "-Ihere")
        monkeypatch.setattr("fusednn.embedding.link_flags", lambda: "-lthis")
        for argv, printed in (
            (["--includes"], "-Ihere"),
            (["--libs"], "-lthis"),
            (["--libs", "--includes"], "-lthis -Ihere"),
        ):
            assert main(argv) == 0
            assert capsys.readouterr().out == printed + "\n"

    @pytest.mark.parametrize("argv", [["--help"], ["info", "--help"], ["train", "--help"]])
    def test_help(self, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(" ".join(["usage: fusednn", *argv[:-1]]))

    def test_module(self) -> None:
        command = [sys.executable, "-m", "fusednn", "--version"]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ran.stdout == f"fusednn {fusednn.__version__}\n"

    def test_unknown_command(self, fails: Callable[..., str]) -> None:
        assert "invalid choice: 'learn'" in fails("learn")

    def test_interruption(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(train, "read_data", interrupt)
        assert main(["train"]) == 130
        assert capsys.readouterr().err == "fusednn: error: interrupted\n"

    def test_output_that_nobody_reads(self) -> None:
        script = "import sys; from fusednn.cli import main; sys.exit(main(['info']))"
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == ""

    def test_defects_keep_their_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def defect(arguments: object) -> None:
            raise AssertionError("ours")

        monkeypatch.setattr(train, "read_data", defect)
        with pytest.raises(AssertionError, match="ours"):
            main(["train"])


class TestInfo:
    def test_facts(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info"]) == 0
        lines = capsys.readouterr().out.splitlines()
        facts = {line[:16].strip(): line[16:] for line in lines}
        build = fusednn.build_info()
        assert facts["fusednn"] == fusednn.__version__
        assert facts["instruction set"].split()[0] == fusednn.instruction_set()
        assert facts["available"].split(", ") == list(fusednn.instruction_sets())
        assert facts["threads"].startswith(f"{fusednn.get_num_threads()} (from ")
        assert facts["CUDA"].endswith(build["cuda_reason"])
        assert facts["CUDA"].startswith("built" if build["cuda"] == "ON" else "not built")
        assert facts["NumPy"] == np.__version__
        assert facts["BLAS of NumPy"] == openblas.description()

    @pytest.mark.parametrize(
        ("environment", "threads"),
        [
            ({"FUSEDNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "1"}, "3 (from FUSEDNN_NUM_THREADS)"),
            ({"OMP_NUM_THREADS": "1"}, "1 (from OMP_NUM_THREADS)"),
            ({}, "(from the CPUs that this process may use)"),
        ],
    )
    def test_where_threads_come_from(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], threads: str
    ) -> None:
        for name in ("FUSEDNN_NUM_THREADS", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-m", "fusednn", "info"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert threads in next(line for line in output.splitlines() if line.startswith("threads"))

    def test_forced_instruction_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        forced = fusednn.instruction_sets()[-1]
        monkeypatch.setenv("FUSEDNN_FORCE_ISA", forced)
        command = [sys.executable, "-m", "fusednn", "info"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"{forced} (FUSEDNN_FORCE_ISA)" in output


def test_help_does_not_load_what_training_needs() -> None:
    script = (
        "import sys\nfrom fusednn.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('loaded:', *sorted({'sklearn', 'matplotlib', 'tqdm', 'csv'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "loaded:"
