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
