"""The examples of networks with fused kernels learn what the plain ones learn."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("fusednn.jax", exc_type=ImportError)
pytest.importorskip("optax")
pytest.importorskip("sklearn")
EXAMPLE = Path(__file__).parents[2] / "examples/jax/digits_mlp.py"


@pytest.mark.parametrize("library", ["flax", "equinox"])
def test_fused_network_learns_the_same(library, capsys, monkeypatch):
    pytest.importorskip(library)
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    results = runpy.run_path(str(EXAMPLE))["main"](library, epochs=4)
    plain, fused = results["plain"], results["fused"]
    assert plain["losses"] == pytest.approx(fused["losses"], rel=0.02, abs=2e-3)
    assert fused["accuracy"] >= 0.95
    assert fused["accuracy"] == pytest.approx(plain["accuracy"], abs=0.01)
    assert "ms a step" in capsys.readouterr().out
