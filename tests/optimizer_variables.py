"""Variables for the optimizer classes, and gradients."""

from __future__ import annotations

import numpy as np

from fusednn.variable import Variable

SHAPES = ((5, 19), (19,), (1,), (0, 3))


def make_variables(rng, shapes=SHAPES, dtype=np.float32):
    return [
        Variable(rng.standard_normal(shape).astype(dtype), name=f"w{i}", path=f"layer/w{i}")
        for i, shape in enumerate(shapes)
    ]


def make_gradients(rng, variables):
    return [np.asarray(rng.standard_normal(v.shape)).astype(v.dtype) for v in variables]


def values(variables):
    return [v.numpy() for v in variables]


def assert_resumes(rng, first, copy_state):
    """Three steps, and three more by a second optimizer with copies of variables and states."""
    variables = make_variables(rng)
    steps = [make_gradients(rng, variables) for _ in range(6)]
    for grads in steps[:3]:
        first.apply(grads, variables)
    second = type(first).from_config(first.get_config())
    copies = [Variable(v.numpy()) for v in variables]
    second.build(copies)
    second.iterations = first.iterations
    for name, states in first.states.items():
        for mine, theirs in zip(second.states[name], states, strict=True):
            copy_state(mine, theirs)
    for grads in steps[3:]:
        first.apply(grads, variables)
        second.apply(grads, copies)
    for a, b in zip(variables, copies, strict=True):
        np.testing.assert_array_equal(a.value, b.value)
