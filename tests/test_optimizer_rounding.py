"""How the optimizers round to short types: every number there is, and what sums of two become."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusednn import ops

PATTERNS = np.arange(1 << 16, dtype=np.uint16)


def to_bfloat16(values):
    """The bits of float32 numbers in bfloat16: ties to even, one NaN for all."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def to_float16(values):
    """Those in float16, as NumPy rounds. What a NaN carries depends on the instruction set."""
    return values.astype(np.float16).view(np.uint16)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize(
    ("dtype", "to_nearest"), [(ml_dtypes.bfloat16, to_bfloat16), (np.float16, to_float16)]
)
def test_every_pair_of_kinds_is_rounded_to_nearest(order, dtype, to_nearest):
    """Subnormal numbers, infinities and NaNs, in runs of their own and among others."""
    rng = np.random.default_rng(3)
    params = PATTERNS if order == "sorted" else rng.permutation(PATTERNS)
    # Beside each parameter zero, a number near it, and any number.
    near = params ^ rng.integers(0, 1 << 9, params.size).astype(np.uint16)
    for grads in (np.zeros_like(params), near, rng.permutation(PATTERNS)):
        stepped = params.copy().view(dtype)
        exact = stepped.astype(np.float32) - grads.view(dtype).astype(np.float32)
        ops.sgd_step([stepped], [grads.view(dtype)], None, lr=1.0, step=1)
        bits, expected = stepped.view(np.uint16), to_nearest(exact)
        if dtype == np.float16:
            np.testing.assert_array_equal(np.isnan(stepped), np.isnan(exact))
            bits, expected = (np.where(np.isnan(exact), 0, a) for a in (bits, expected))
        np.testing.assert_array_equal(bits, expected)
