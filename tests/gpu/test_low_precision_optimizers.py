"""Steps in 16 bits: rounding at random, copies of the parameters; the bits of the CPU."""

from __future__ import annotations

import pytest
from devices import array
from test_optimizers import Lists

import reference as ref

BFLOAT16, FLOAT16 = ref.DTYPES[3], ref.DTYPES[2]
SIZES = (300, 0, 1, 7, 4097, 97)
KINDS = ("sgd", "rmsprop", "adam")
NETWORK = (3_000_017, *range(300))
LISTS = [pytest.param(SIZES, marks=pytest.mark.short, id="short"), pytest.param(NETWORK, id="long")]


@pytest.mark.parametrize("sizes", LISTS)
@pytest.mark.parametrize("kept", [None, BFLOAT16], ids=["float32 states", "bfloat16 states"])
@pytest.mark.parametrize("kind", KINDS)
def test_stochastic_rounding(device, rng, kind, kept, sizes):
    """The random bits depend on seed, step and place: not on who computes."""
    options = {"stochastic_rounding_seed": int(rng.integers(1 << 62)), "ema_momentum": 0.9}
    lists = Lists(device, rng, kind, options, sizes, dtype=BFLOAT16, kept=kept)
    before = [a.copy() for a in lists.cpu["params"]]
    for t in (1, 2, 3):
        lists.set_grads(rng)
        lists.step_both(t)
    lists.assert_same()
    # Another seed is another result.
    other = [array(device, a) for a in before]
    lists.gpu["params"] = other
    lists.step(lists.gpu, 4, stochastic_rounding_seed=options["stochastic_rounding_seed"] + 1)
    assert any((device.get(a) != b).any() for a, b in zip(other, before, strict=True))


@pytest.mark.parametrize("sizes", LISTS)
@pytest.mark.parametrize("copies", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_low_precision_copies(device, rng, kind, copies, sizes):
    lists = Lists(device, rng, kind, {}, sizes, copies=copies)
    for t in (1, 2):
        lists.set_grads(rng)
        lists.step_both(t)
    lists.assert_same()
    for copy, param in zip(lists.gpu["low_precision_copies"], lists.cpu["params"], strict=True):
        ref.assert_same_numbers(device.get(copy), param.astype(copies))


@pytest.mark.short
@pytest.mark.parametrize("offset", [1, 3])
def test_misaligned_copies_of_misaligned_parameters(device, rng, offset):
    lists = Lists(device, rng, "adam", {}, SIZES, offset=offset, copies=FLOAT16)
    lists.step_both(1)
    lists.assert_same()
