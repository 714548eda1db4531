"""The "tf1" convention against `tf.compat.v1.train`, by a record of what TensorFlow computed."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import tensorflow_trajectories as theirs

import reference as ref
from fusednn import ops

RECORD = json.loads(theirs.RECORD.read_text())
# Its square averages start at 1 by themselves.
INITIAL = {"sums": 0.1, "square_avgs": 1.0}
# TensorFlow's powers of beta are in float32.
TOLERANCES = {"adam": 2e-6}


@pytest.mark.parametrize(("kind", "options"), theirs.CASES, ids=ref.case_id)
def test_trajectories(kind, options):
    recorded = RECORD["trajectories"][theirs.case_name(kind, options)]
    params = [theirs.start()]
    states = {
        name: [np.full(theirs.SIZE, INITIAL.get(name, 0.0))]
        for name in ref.OPTIMIZERS[kind].state_names(options)
    }
    for step, (grad, lr) in enumerate(zip(theirs.gradients(), theirs.RATES, strict=True), start=1):
        how = {"step": step, "lr": lr, "convention": "tf1"}
        ref.call_step(ops, kind, params, [grad], states, **how, **options)
    tolerance = TOLERANCES.get(kind, 1e-12)
    for name, arrays in {"params": params, **states}.items():
        np.testing.assert_allclose(arrays[0], recorded[name], rtol=tolerance, atol=tolerance)
    assert np.abs(params[0] - theirs.start()).min() > 0.05


@pytest.mark.parametrize("kind", theirs.OPTIMIZERS)
def test_every_option_is_recorded(kind):
    named = {name for of, options in theirs.CASES if of == kind for name in options}
    assert named == ref.own_hyperparameters(kind, "tf1")
    assert len(set(theirs.RATES)) > 3  # a schedule
    assert set(theirs.OPTIMIZERS) == {k for k, convention in ref.PAIRS if convention == "tf1"}


@pytest.mark.parametrize("kind", theirs.OPTIMIZERS)
def test_defaults(kind):
    """Ours are those of the reference, as `test_optimizer_conventions.py` shows."""
    parameters = inspect.signature(ref.FORMULAS[kind]["tf1"]).parameters
    recorded = RECORD["defaults"][kind]
    names = ref.own_hyperparameters(kind, "tf1") & set(recorded)
    assert {n: parameters[n].default for n in names} == {n: recorded[n] for n in names}
    assert recorded.get("initial_accumulator_value", 0.1) == INITIAL["sums"]
    # Its class must be given the momentum; without one it is another, GradientDescentOptimizer.
    assert ref.own_hyperparameters(kind, "tf1") - names <= {"momentum"}


@pytest.mark.parametrize(("kind", "options"), theirs.CASES, ids=ref.case_id)
def test_the_record_is_what_tensorflow_computes(kind, options):
    pytest.importorskip(
        "tensorflow", reason="TensorFlow takes 1.3 GB: its record stands for it elsewhere"
    )
    recorded = RECORD["trajectories"][theirs.case_name(kind, options)]
    found = theirs.tensorflow_trajectory(kind, options)
    assert found.keys() == recorded.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, recorded[name], rtol=1e-6, atol=1e-6)
