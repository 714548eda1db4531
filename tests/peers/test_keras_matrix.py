"""Every option of an optimizer with every schedule and every option of all, as Keras has them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import keras_matrix
import numpy as np
import pytest
from keras_trajectories import optimizer, recorded

from fusednn import optimizers
from fusednn.variable import Variable

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras", reason="compares with Keras")
pytest.importorskip("torch", reason="Keras computes in float64 with it")

NAMES = ["-".join([name, *(f"{k}={v}" for k, v in o.items())]) for name, o in keras_matrix.CASES]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("keras") / "matrix.npz"
    return recorded(Path(keras_matrix.__file__), path)


@pytest.mark.parametrize("case", range(len(NAMES)), ids=NAMES)
def test_fifty_steps(golden: Any, case: int) -> None:
    name, options = keras_matrix.CASES[case]
    variables = [Variable(value) for value in keras_matrix.start()]
    mine = optimizer(optimizers, name, options)
    mine.build(variables)
    for grads in keras_matrix.gradients():
        mine.apply(grads, variables)
    found = {"stepped": [variable.numpy() for variable in variables]}
    mine.finalize_variable_values(variables)
    found["final"] = [variable.numpy() for variable in variables]
    for when, arrays in found.items():
        for j, array in enumerate(arrays):
            assert array.dtype == np.float64
            want = golden[f"{case}/{j}/{when}"]
            np.testing.assert_allclose(array, want, rtol=1e-6, atol=1e-6, err_msg=f"{when} {j}")
            assert np.abs(array - keras_matrix.start()[j]).max() > 1e-2


def test_all_pairs_are_there() -> None:
    """Each own option with each common one, and each of these with each rate."""
    kinds = (keras_matrix.OWN, keras_matrix.COMMON, keras_matrix.RATES)
    seen = {
        tuple(f"{part}" for part in (keras_matrix.OWN[i], keras_matrix.COMMON[j], rate))
        for (i, j), (_, options) in zip(
            itertools.product(range(len(kinds[0])), range(len(kinds[1]))),
            keras_matrix.CASES,
            strict=True,
        )
        for rate in kinds[2]
        if {k: options[k] for k in ("learning_rate", "decay") if k in options} == rate
    }
    for a, b in itertools.combinations(range(3), 2):
        assert {(case[a], case[b]) for case in seen} == {
            (f"{x}", f"{y}") for x in kinds[a] for y in kinds[b]
        }
    known = {n for n in optimizers.__all__ if n[0].isupper()} - {"Optimizer", "RMSProp"}
    assert {name for name, _ in keras_matrix.OWN} == known
