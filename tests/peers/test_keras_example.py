"""The example of a converted network of Keras learns what the plain one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("keras") is None or find_spec("sklearn") is None:
    pytest.skip("Keras or scikit-learn is not installed", allow_module_level=True)
FOLDER = Path(__file__).parents[2] / "examples/keras"
PROGRAM = """
import json, digits_mlp
results = digits_mlp.main(epochs=4)
print(json.dumps(results))
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_converted_network_learns_the_same(backend: str) -> None:
    path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    environment = {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    results = json.loads(last)
    plain, converted = results["plain"], results["converted"]
    assert plain["losses"] == pytest.approx(converted["losses"], rel=0.01, abs=1e-3)
    assert plain["losses"][-1] < plain["losses"][0] / 5
    assert converted["accuracy"] >= 0.94
    assert converted["accuracy"] == pytest.approx(plain["accuracy"], abs=0.01)
    for line, name in zip(printed, results, strict=True):
        assert line.startswith(name)
        assert f"{results[name]['accuracy']:.3f}, {1e3 * results[name]['step']:.2f} ms" in line
