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
    assert "ms a step" in capsys.readouterr().out
