"""How the optimizers round to bfloat16: every number there is, and what sums of two become."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusednn import ops

PATTERNS = np.arange(1 << 16, dtype=np.uint16)


def to_nearest(values):
    """The bits of float32 numbers in bfloat16: ties to even, one NaN for all."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_every_pair_of_kinds_is_rounded_to_nearest(order):
    """Subnormal numbers, infinities and NaNs, in runs of their own and among others."""
    rng = np.random.default_rng(3)
    params = PATTERNS if order == "sorted" else rng.permutation(PATTERNS)
    # Beside each parameter zero, a number near it, and any number.
    near = params ^ rng.integers(0, 1 << 9, params.size).astype(np.uint16)
    for grads in (np.zeros_like(params), near, rng.permutation(PATTERNS)):
        stepped = params.copy().view(ml_dtypes.bfloat16)
        exact = stepped.astype(np.float32) - grads.view(ml_dtypes.bfloat16).astype(np.float32)
        ops.sgd_step([stepped], [grads.view(ml_dtypes.bfloat16)], None, lr=1.0, step=1)
        np.testing.assert_array_equal(stepped.view(np.uint16), to_nearest(exact))
