"""The example of a converted network learns what the plain one learns."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import fusednn

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
EXAMPLE = Path(__file__).parents[2] / "examples/torch/digits_cnn.py"


def test_converted_network_learns_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads(), fusednn.get_num_threads()
    try:
        results = runpy.run_path(str(EXAMPLE))["main"](epochs=3)
    finally:
        torch.set_num_threads(before[0])
        fusednn.set_num_threads(before[1])
    plain, converted = results["plain"], results["converted"]
    assert plain["losses"] == pytest.approx(converted["losses"], rel=0.02, abs=2e-3)
    assert converted["accuracy"] >= 0.95
    assert converted["accuracy"] == pytest.approx(plain["accuracy"], abs=0.01)
    # A step's time is not for a test to judge; what PyTorch is asked to do in one is.
    normalisations = [
        sum(count for name, count in one["operators"].items() if "batch_norm" in name)
        for one in (plain, converted)
    ]
    assert normalisations[0] >= 4  # two forward, two backward
    assert normalisations[1] == 0
    assert not any("leaky_relu" in name for name in converted["operators"])
    counts = [sum(one["operators"].values()) for one in (plain, converted)]
    assert counts[1] < counts[0]
    lines = capsys.readouterr().out.splitlines()
    for line, count, (name, one) in zip(lines, counts, results.items(), strict=True):
        assert line.startswith(name)
        assert f"{1e3 * one['step']:.2f} ms and {count} operators a step" in line
