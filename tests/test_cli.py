"""The command line: what it prints, what it refuses and how."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fusednn
from fusednn import blas_threads, openblas
from fusednn.cli import main, plot, train
from fusednn.cli.threads import training_threads
from fusednn.cli.values import column, layer_widths

QUICK = ["--quiet", "--layers", "16", "--epochs", "3", "--learning-rate", "0.02"]


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """A .csv file of three well separated classes, labels strings, with a header."""
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 3
    x = rng.normal(size=(300, 4)) + 4.0 * np.eye(3, 4)[labels]
    rows = [
        ",".join([*(f"{v:.5f}" for v in row), "abc"[k]]) for row, k in zip(x, labels, strict=True)
    ]
    path = tmp_path / "blobs.csv"
    path.write_text("\n".join(["w,x,y,z,kind", *rows]) + "\n")
    return path


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail as promised; returns what it says was wrong."""

    def run(*argv: str | Path) -> str:
        assert main([str(argument) for argument in argv]) == 2
        error = capsys.readouterr().err
        assert error.startswith("fusednn: error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        return error.removeprefix("fusednn: error: ").strip()

    return run


def accuracy_in(output: str) -> float:
    match = re.search(r"^test accuracy +([01]\.\d{4}) on", output, re.MULTILINE)
    assert match is not None, output
    return float(match[1])


class TestCommand:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"fusednn {fusednn.__version__}\n"

    def test_without_a_command_prints_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert {"info", "train"} <= set(capsys.readouterr().out.split())

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


class TestTrain:
    def test_digits_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
        assert main(["train"]) == 0
        output = capsys.readouterr().out
        # One seed; over eight of them 0.969 to 1.0, 0.982 on average.
        assert accuracy_in(output) >= 0.96
        assert "digits: 1,438 examples for training, 359 for testing" in output
        assert "64; pixels divided by 16" in output
        assert "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in output
        assert "stratified, 20% for testing" in output
        assert output.count("batch_normalization") >= 4
        assert re.search(
            r"^training +\d+\.\d\d s, [\d,]+ samples per second$", output, re.MULTILINE
        )

    def test_csv(self, capsys: pytest.CaptureFixture[str], blobs: Path) -> None:
        assert main(["train", str(blobs), *QUICK[1:], "--epochs", "8", "--verbose"]) == 0
        output = capsys.readouterr().out
        assert accuracy_in(output) > 0.9
        assert f"{blobs}: 240 examples for training, 60 for testing" in output
        assert "4; each feature standardised by the training set's mean" in output
        assert "3: a, b, c" in output

    @pytest.mark.parametrize(
        "options",
        [
            ["--optimizer", "sgd", "--momentum", "0.9", "--nesterov", "--learning-rate", "0.05"],
            ["--optimizer", "rmsprop", "--momentum", "0.5", "--batch-size", "8"],
            ["--optimizer", "adagrad", "--learning-rate", "0.1", "--activation", "elu"],
            ["--optimizer", "adamw", "--activation", "relu", "--initializer", "glorot_uniform"],
            ["--normalisation", "none", "--activation", "tanh", "--batch-size", "8"],
            ["--normalization", "none", "--activation", "selu", "--initializer", "lecun_normal"],
            ["--activation", "sigmoid", "--test-fraction", "0.5", "--threads", "2", "--seed", "5"],
        ],
        ids=lambda options: "-".join(o.strip("-") for o in options),
    )
    def test_options_train(
        self, capsys: pytest.CaptureFixture[str], blobs: Path, options: list[str]
    ) -> None:
        assert main(["train", str(blobs), *QUICK, "--epochs", "20", *options]) == 0
        assert accuracy_in(capsys.readouterr().out) > 0.9

    def test_quiet_prints_two_lines(self, capsys: pytest.CaptureFixture[str], blobs: Path) -> None:
        assert main(["train", str(blobs), *QUICK]) == 0
        captured = capsys.readouterr()
        assert [line.split()[0] for line in captured.out.splitlines()] == ["test", "training"]
        assert captured.err == ""

    def test_seed_repeats_the_run(self, capsys: pytest.CaptureFixture[str], blobs: Path) -> None:
        losses = []
        for seed in ("3", "3", "4"):
            assert (
                main(
                    [
                        "train",
                        str(blobs),
                        "--verbose",
                        "--layers",
                        "8",
                        "--epochs",
                        "2",
                        "--seed",
                        seed,
                    ]
                )
                == 0
            )
            captured = capsys.readouterr()
            losses.append(re.findall(r"loss: [\d.]+", captured.out + captured.err))
        assert losses[0]
        assert losses[0] == losses[1] != losses[2]

    def test_npz_with_its_own_test_set(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, fails: Callable[..., str]
    ) -> None:
        x = np.random.default_rng(0).integers(0, 2, (64, 2, 3)).astype(np.float32)
        y = (x.sum((1, 2)) > 3).astype(int)
        path = tmp_path / "a.npz"
        np.savez(path, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
        assert main(["train", str(path), "--layers", "8", "--epochs", "1", "--verbose"]) == 0
        output = capsys.readouterr().out
        assert "64 examples for training, 20 for testing" in output
        assert "2 x 3; each feature standardised" in output
        assert "the data's own" in output
        assert "leave --test-fraction out" in fails("train", path, "--test-fraction", "0.3")

    def test_idx_folder(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        images = np.random.default_rng(0).integers(0, 256, (40, 3, 3), np.uint8)
        head = bytes([0, 0, 8])
        (tmp_path / "train-images-idx3-ubyte").write_bytes(
            head + b"\3" + struct.pack(">3I", 40, 3, 3) + images.tobytes()
        )
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(
            head + b"\1" + struct.pack(">I", 40) + bytes(range(2)) * 20
        )
        assert main(["train", str(tmp_path), "--layers", "8", "--epochs", "1", "--verbose"]) == 0
        assert "3 x 3; pixels divided by 255" in capsys.readouterr().out

    def test_label_column_by_number(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        path = tmp_path / "a.csv"
        path.write_text("".join(f"{i % 2},{i % 2 + 0.1 * i},7\n" for i in range(40)))
        assert main(["train", str(path), "--label", "1", *QUICK]) == 0
        assert accuracy_in(capsys.readouterr().out) >= 0.0

    def test_plot(self, capsys: pytest.CaptureFixture[str], blobs: Path, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib", reason="--plot draws with matplotlib")
        curve = tmp_path / "curve.png"
        assert main(["train", str(blobs), *QUICK, "--plot", str(curve)]) == 0
        content = curve.read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">2I", content[16:24])
        assert width > height > 300
        assert "matplotlib.pyplot" not in vars(plot)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ["--epochs", "0"],
                r"argument --epochs: must be an integer of at least 1. Received: 0",
            ),
            (
                ["--batch-size", "1.5"],
                r"--batch-size: must be an integer of at least 1. Received: 1.5",
            ),
            (["--threads", "0"], r"--threads: must be an integer of at least 1. Received: 0"),
            (["--seed", "-1"], r"--seed: must be an integer of at least 0. Received: -1"),
            (
                ["--learning-rate", "nan"],
                r"--learning-rate: must be a number in \(0, inf\). Received: nan",
            ),
            (["--learning-rate", "0"], r"--learning-rate: must be .* Received: 0"),
            (["--momentum", "1"], r"--momentum: must be a number in \[0, 1\). Received: 1"),
            (
                ["--test-fraction", "1"],
                r"--test-fraction: must be a number in \(0, 1\). Received: 1",
            ),
            (["--layers", "0"], r"--layers: must be widths as 300,100 or 20x100. Received: 0"),
            (["--layers", "3x"], r"--layers: must be widths .* Received: 3x"),
            (["--label", "0"], r"--label: must be a name, or a number from 1. Received: 0"),
            (["--activation", "swosh"], r"--activation: invalid choice: 'swosh'"),
            (
                ["--optimizer", "adam", "--momentum", "0.9"],
                r"--momentum is for sgd and rmsprop.*: adam",
            ),
            (
                ["--optimizer", "sgd", "--nesterov"],
                r"--nesterov is for --optimizer sgd with a --momentum",
            ),
            (["--device", "tpu"], r"--device: `name` must be 'cpu', .* Received: name='tpu'"),
            (["--label", "a"], r"--label and --header are for \.csv files"),
            (["--verbose", "--quiet"], r"--quiet: not allowed with argument --verbose"),
            (["--layerz", "3"], r"unrecognized arguments: --layerz 3"),
        ],
        ids=lambda value: "-".join(v.strip("-") for v in value) if isinstance(value, list) else "",
    )
    def test_options(self, fails: Callable[..., str], options: list[str], message: str) -> None:
        assert re.search(message, fails("train", "digits", *options))

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("none.csv", None, r"none\.csv: No such file or directory$"),
            ("a.csv", b"", r"a\.csv: the file is empty"),
            ("a.csv", b"1,2,a\n1,b\n", r"a\.csv: line 2: must have 3 cells"),
            (
                "a.csv",
                b"w,h,k\n1,2,a\n1,x,b\n",
                r"a\.csv: line 3, column 2 \('h'\): must be a number",
            ),
            ("a.csv", b"1,2,a\n1,3,a\n", r"a\.csv: labels must hold two classes or more"),
            ("a.csv", b"1,2,a\n1,3,b\n", r"a\.csv: no class has two examples"),
            ("a.npz", b"PK\3\4 and then nothing", r"a\.npz: not a \.npz archive"),
            ("images-idx3", b"\0\0\x08\3\0\0", r"images-idx3: truncated inside its header"),
            ("a.txt", b"hello", r"a\.txt: must be a \.npz or \.csv file, or MNIST-style IDX files"),
            ("a.txt", b"\x1f\x8b\x08", r"a\.txt: the gzip data is truncated"),
        ],
    )
    def test_files(
        self,
        fails: Callable[..., str],
        tmp_path: Path,
        name: str,
        content: bytes | None,
        message: str,
    ) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
            (tmp_path / "labels-idx1").write_bytes(b"\0\0\x08\1\0\0\0\0")
        error = fails("train", tmp_path / name)
        assert error.startswith(str(tmp_path))
        assert re.search(message, error)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("curve.xyz", r"curve\.xyz: the plot's ending must be one of .*png"),
            ("none/curve.png", r"curve\.png: the plot's folder must exist"),
        ],
    )
    def test_plots(
        self, fails: Callable[..., str], tmp_path: Path, target: str, message: str
    ) -> None:
        pytest.importorskip("matplotlib", reason="--plot draws with matplotlib")
        assert re.search(message, fails("train", "--plot", tmp_path / target))

    def test_plot_without_matplotlib(
        self, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plot, "find_spec", lambda name: None)
        assert "not installed: pip install matplotlib" in fails("train", "--plot", "curve.png")

    def test_digits_without_scikit_learn(
        self, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fusednn.datasets.scikit_learn_files, "find_spec", lambda name: None)
        assert "not installed: pip install scikit-learn" in fails("train")

    def test_loss_that_is_not_a_number(
        self, capsys: pytest.CaptureFixture[str], blobs: Path
    ) -> None:
        options = ["--optimizer", "sgd", "--learning-rate", "1e30", "--normalisation", "none"]
        assert main(["train", str(blobs), *QUICK, *options]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("fusednn: error: ")
        assert re.search(r"epoch 1\b.*batch \d", error)


class TestValues:
    @pytest.mark.parametrize(
        ("text", "widths"),
        [("7", [7]), ("300, 100", [300, 100]), ("3x5", [5, 5, 5]), ("9,2x4", [9, 4, 4])],
    )
    def test_layer_widths(self, text: str, widths: list[int]) -> None:
        assert layer_widths(text) == widths

    @pytest.mark.parametrize(
        ("text", "value"), [("kind", "kind"), ("1", 0), ("12", 11), ("1a", "1a")]
    )
    def test_column(self, text: str, value: str | int) -> None:
        assert column(text) == value


class TestThreads:
    @staticmethod
    def product_threads() -> int:
        """Of the OpenBLAS that NumPy is linked to; SciPy has another one."""
        found = blas_threads._find_openblas()
        assert not isinstance(found, str)
        return found.num_threads

    @pytest.mark.skipif(
        not blas_threads.can_share_blas_threads(), reason="NumPy's BLAS cannot share threads"
    )
    @pytest.mark.parametrize(
        ("count", "product", "kernels", "products"),
        [(3, 1, 3, 3), (3, 1 << 30, 3, 3), (None, 1, None, 1), (None, 1 << 30, None, None)],
        ids=["given", "given-large", "small", "large"],
    )
    def test_inside_and_after(
        self, count: int | None, product: int, kernels: int | None, products: int | None
    ) -> None:
        threadpoolctl = pytest.importorskip("threadpoolctl", reason="reaches NumPy's threads")
        before = fusednn.get_num_threads()
        with threadpoolctl.threadpool_limits(before + 1, user_api="blas"):
            with training_threads(count, product):
                assert fusednn.get_num_threads() == (kernels or before)
                assert self.product_threads() == (products or before)
            assert fusednn.get_num_threads() == before
            assert self.product_threads() == before + 1

    @pytest.mark.parametrize(("count", "products"), [(3, 3), (None, 2)])
    def test_with_another_blas(
        self, monkeypatch: pytest.MonkeyPatch, count: int | None, products: int
    ) -> None:
        """What cannot share is limited through threadpoolctl, where a number was given."""
        threadpoolctl = pytest.importorskip("threadpoolctl", reason="reaches NumPy's threads")
        monkeypatch.setattr(blas_threads, "can_share_blas_threads", lambda: False)
        limits = threadpoolctl.threadpool_limits(2, user_api="blas")
        with limits, training_threads(count, 1 << 30):
            found = threadpoolctl.ThreadpoolController().select(user_api="blas").info()
            assert {pool["num_threads"] for pool in found} == {products}

    def test_training_that_shares_goes_on_sharing(self) -> None:
        if not blas_threads.can_share_blas_threads():
            pytest.skip("NumPy's BLAS cannot share threads")
        with blas_threads.shared_blas_threads() as shared:
            assert shared
            with training_threads(None, 1 << 30):
                pass
            assert blas_threads._shared is not None
        assert blas_threads._shared is None

    def test_without_threadpoolctl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)
        before = fusednn.get_num_threads()
        with training_threads(before + 1, 1):
            assert fusednn.get_num_threads() == before + 1
        assert fusednn.get_num_threads() == before


def test_help_does_not_load_what_training_needs() -> None:
    script = (
        "import sys\nfrom fusednn.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('loaded:', *sorted({'sklearn', 'matplotlib', 'tqdm', 'csv'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "loaded:"
