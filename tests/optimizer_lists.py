"""Lists for optimizer steps, stepped beside arrays that the library never saw before."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import ops

SHAPES = [(3, 4), (5,), (0,), (2, 3, 4), (1,)]


class Lists:
    """Arrays of an Adam step, and the same step done with arrays that were never seen before."""

    def __init__(self, shapes=SHAPES, dtype=np.float32, seed=3):
        rng = np.random.default_rng(seed)
        self.params, self.grads, self.m, self.v = (
            [rng.uniform(0.5, 1.5, shape).astype(dtype) for shape in shapes] for _ in range(4)
        )
        self.steps = 0

    @property
    def lists(self):
        return self.params, self.grads, self.m, self.v

    def step(self, **options):
        """One step, compared with that of fresh copies."""
        copies = [[array.copy("K") for array in arrays] for arrays in self.lists]
        self.steps += 1
        ops.adam_step(*copies, step=self.steps, lr=0.1, **options)
        ops.adam_step(*self.lists, step=self.steps, lr=0.1, **options)
        for ours, theirs in zip(self.lists, copies, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)

    def fails(self, error, match):
        """The step raises and changes nothing."""
        before = [[array.copy("K") for array in arrays] for arrays in self.lists]
        with pytest.raises(error, match=match):
            ops.adam_step(*self.lists, step=self.steps + 1, lr=0.1)
        for ours, old in zip(self.lists, before, strict=True):
            for a, b in zip(ours, old, strict=True):
                np.testing.assert_array_equal(a, b)
