"""Steps in 16 bits: rounding at random, copies of the parameters; the bits of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from devices import array
from test_optimizers import Lists

import reference as ref
from fusednn import ops

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


@pytest.mark.parametrize("sizes", LISTS)
@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_states_in_8_bits(device, rng, kind, seed, sizes):
    dtype = np.dtype(np.float32) if seed is None else BFLOAT16
    lists = Lists(device, rng, kind, {"momentum": 0.9} if kind == "sgd" else {}, sizes, dtype)
    names = [name for name in lists.cpu if name not in ("params", "grads")]
    states = {name: ([], []) for name in names}
    for name in names:
        signed = name != "exp_avg_sqs" and name != "square_avgs"
        for n in sizes:
            ours = ops.quantized_state(np.empty(n, np.float32), signed=signed)
            states[name][0].append(ours)
            parts = (array(device, part) for part in (ours.codes, ours.scales))
            states[name][1].append(ops.QuantizedState(*parts, signed=signed))
        lists.cpu[name], lists.gpu[name] = states[name]
    how = {} if seed is None else {"stochastic_rounding_seed": seed}
    for t in (1, 2, 3):
        lists.set_grads(rng)
        for arrays in (lists.gpu, lists.cpu):
            lists.step(arrays, t, **how)
    for name in ("params",):
        for ours, theirs in zip(lists.gpu[name], lists.cpu[name], strict=True):
            ref.assert_same_numbers(device.get(ours), theirs)
    for on_cpu, on_device in states.values():
        for ours, theirs in zip(on_device, on_cpu, strict=True):
            np.testing.assert_array_equal(device.get(ours.codes), theirs.codes)
            np.testing.assert_array_equal(device.get(ours.scales), theirs.scales)


@pytest.mark.short
@pytest.mark.parametrize("offset", [1, 3])
def test_misaligned_copies_of_misaligned_parameters(device, rng, offset):
    lists = Lists(device, rng, "adam", {}, SIZES, offset=offset, copies=FLOAT16)
    lists.step_both(1)
    lists.assert_same()
