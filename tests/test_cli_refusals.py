"""What the command line refuses, and how; the values of its options."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import fusednn
from fusednn.cli import main, plot
from fusednn.cli.values import column, layer_widths


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
        assert main(["train", str(blobs), "--quiet", "--layers", "16", *options]) == 2
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
