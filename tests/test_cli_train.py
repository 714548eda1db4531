"""`fusednn train`: what it reads, trains and prints."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusednn.cli import main, plot

QUICK = ["--quiet", "--layers", "16", "--epochs", "3", "--learning-rate", "0.02"]


def accuracy_in(output: str) -> float:
    match = re.search(r"^test accuracy +([01]\.\d{4}) on", output, re.MULTILINE)
    assert match is not None, output
    return float(match[1])


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
