"""`fusednn pretrain`, and the option --save that it shares with `fusednn train`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import pytest

from fusednn.cli import main, model_file, pretrain
from fusednn.datasets import LabeledData
from fusednn.models import load_model

QUICK = ["--layers", "16,12", "--epochs", "6", "--pretrain-epochs", "3", "--learning-rate", "0.02"]


@pytest.fixture
def digits(tmp_path: Path) -> str:
    """A .npz file of noisy 5 x 5 pictures of four classes."""
    rng = np.random.default_rng(0)
    classes = rng.uniform(size=(4, 25))
    y = np.arange(300) % 4
    x = classes[y] + 0.2 * rng.standard_normal((300, 25))
    np.savez(tmp_path / "digits.npz", x=x.astype(np.float32), y=y)
    return str(tmp_path / "digits.npz")


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["pretrain", *argv]) == 0
    return str(capsys.readouterr().out)


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    error = str(capsys.readouterr().err)
    assert error.startswith("fusednn: error: ")
    assert error.count("\n") == 1
    return error


def accuracies(output: str) -> list[float]:
    return [float(x) for x in re.findall(r"([01]\.\d{4}) on 60 examples", output)]


def test_tells_what_it_does_and_what_it_gained(
    digits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = said(capsys, digits, *QUICK, "--labels", "24")
    assert "labels         24 of 240 are used" in output
    losses = re.findall(
        r"hidden layer   \d of 2: mean squared error of its autoencoder "
        r"(\S+) in the first epoch, (\S+) in the last",
        output,
    )
    assert len(losses) == 2
    assert all(float(last) < float(first) for first, last in losses)
    pretrained, without = accuracies(output)
    assert min(pretrained, without) > 0.6
    gain = re.search(r"^gain +([+-]\d\.\d{4}): ", output, re.MULTILINE)
    assert gain is not None
    assert float(gain[1]) == pytest.approx(pretrained - without, abs=2e-4)
    assert "Epoch" not in output
    quiet = said(capsys, digits, *QUICK, "--labels", "24", "--quiet")
    assert accuracies(quiet) == [pretrained, without]  # the same seed
    assert len(quiet.splitlines()) == 4
    assert "Epoch 3/3" in said(capsys, digits, *QUICK, "--labels", "24", "--verbose")


def test_without_pretraining_it_is_the_same_training(
    digits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the comparison is worth: a rate of 0 leaves the hidden layers as they were made."""
    output = said(capsys, digits, *QUICK, "--learning-rate", "1e-30", "--quiet")
    pretrained, without = accuracies(output)
    assert pretrained == pytest.approx(without, abs=0.1)  # statistics of BatchNormalization moved
    plain = [*QUICK, "--learning-rate", "1e-30", "--normalisation", "none", "--quiet"]
    pretrained, without = accuracies(said(capsys, digits, *plain))
    assert pretrained == without


@pytest.mark.parametrize(
    "options", [["--tied"], ["--noise", "0.2"], ["--fine-tune", "output"]], ids=lambda o: o[0]
)
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_options_and_the_saved_model(
    digits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], ending: str
) -> None:
    path = tmp_path / f"model{ending}"
    output = said(capsys, digits, *QUICK, *options, "--save", str(path))
    assert f"model          {path}, pretrained" in output
    model = load_model(path)
    assert model.layers[0].trainable is ("output" not in options)
    assert len(model.layers) == 7
    assert accuracies(output)[0] > 0.6


def test_train_saves_its_model(
    digits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.keras"
    assert main(["train", digits, "--layers", "8", "--epochs", "1", "--save", str(path)]) == 0
    assert f"model          {path}" in capsys.readouterr().out
    assert load_model(path).output_shape == (None, 4)


def test_each_class_has_its_share_of_the_labels() -> None:
    y = np.repeat([0, 1, 2], [100, 60, 5])
    data = LabeledData(
        source="made",
        x_train=np.zeros((165, 2), np.float32),
        y_train=y,
        x_test=np.zeros((0, 2), np.float32),
        y_test=np.zeros(0, int),
        classes=("a", "b", "c"),
    )

    def counts(labels: int, seed: int = 0) -> list[int]:
        chosen = pretrain.few_labels(data, argparse.Namespace(labels=labels, seed=seed))
        assert len(set(chosen)) == labels
        return np.bincount(y[chosen], minlength=3).tolist()

    assert counts(3) == [1, 1, 1]
    assert counts(33) == [20, 12, 1]
    assert counts(165) == [100, 60, 5]
    arguments = [argparse.Namespace(labels=33, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (pretrain.few_labels(data, each).tolist() for each in arguments)
    assert first == again != other


def test_refusals(digits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "--labels must be from 4, the number of classes, to 240, that of training samples"
    for count in ("3", "241"):
        assert message in error_of(capsys, "pretrain", digits, "--labels", count)
    assert "integer of at least 1" in error_of(capsys, "pretrain", digits, "--labels", "0")
    assert "--noise" in error_of(capsys, "pretrain", digits, "--noise", "-1")
    assert "--nesterov is for" in error_of(capsys, "pretrain", digits, "--nesterov")
    for command in ("pretrain", "train"):
        said = error_of(capsys, command, digits, "--save", "model.pkl")
        assert "model.pkl: the model's ending must be one of .keras, .h5" in said
        said = error_of(capsys, command, digits, "--save", str(tmp_path / "absent" / "m.keras"))
        assert "the model's folder must exist" in said


def test_h5py_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "find_spec", lambda name: None)
    model_file.check(None)
    with pytest.raises(ModuleNotFoundError, match="--save writes with h5py"):
        model_file.check("model.keras")
