"""The command line: what every command shares, `fusednn info`, what help may load."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn import _core, openblas
from fusednn.cli import info, main, train


def only_here(monkeypatch: pytest.MonkeyPatch, load: Callable[[str], Any]) -> None:
    """Have `info` load the driver's library by this function."""
    own = SimpleNamespace(CDLL=load, c_int=ctypes.c_int, byref=ctypes.byref)
    monkeypatch.setattr(info, "ctypes", own)


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
        assert facts["CUDA driver"]
        assert facts["CuPy"]
        assert facts["NumPy"] == np.__version__
        assert facts["BLAS of NumPy"] == openblas.description()

    def test_without_cupy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cupy", None)
        assert info.facts()["CuPy"] == (
            "not installed; models on a GPU need it: pip install 'fusednn[cuda]'"
        )

    def test_a_cupy_that_cannot_be_imported(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "cupy.py").write_text("raise ImportError('libnvrtc.so.13 is\\nnot there')")
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        assert info.facts()["CuPy"] == "cannot be imported: libnvrtc.so.13 is not there"

    def test_the_version_of_cupy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(__version__="14.0.1"))
        assert info.facts()["CuPy"] == "14.0.1"

    def test_without_cuda_kernels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The driver is told all the same."""
        if _core.cuda_build() != "OFF" or "FUSEDNN_CUDA_LIBRARY" in os.environ:
            pytest.skip("there are CUDA kernels")

        def set_version(address: Any) -> None:
            address._obj.value = 13010

        library = SimpleNamespace(cuDriverGetVersion=set_version)
        only_here(monkeypatch, lambda name: library)
        facts = info.facts()
        assert facts["CUDA driver"] == "supports CUDA 13.1"
        assert facts["GPU"].startswith("none that can be used: this build of fusednn has no CUDA k")
        assert facts["GPU"].endswith(
            "; build them from source: pip install -Ccmake.define.FUSEDNN_CUDA=ON ."
        )

    @pytest.mark.parametrize("built", [True, False])
    def test_without_a_driver(self, monkeypatch: pytest.MonkeyPatch, built: bool) -> None:
        def missing(name: str) -> None:
            raise OSError(f"{name}: no such file")

        def no_gpu() -> int:
            raise RuntimeError("CUDA driver version is insufficient")

        only_here(monkeypatch, missing)
        monkeypatch.setattr(_core, "cuda_versions", (lambda: (0, 13000)) if built else no_gpu)
        monkeypatch.setattr(_core, "cuda_device_count", no_gpu)
        facts = info.facts()
        assert facts["CUDA driver"] == (
            "not found; the kernels have the runtime of 13.0"
            if built
            else "not found: install NVIDIA's"
        )
        assert "none that can be used: CUDA driver version is insuffic" in facts["GPU"]

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
