"""8-bit states: the codes, what a step stores, the object, and what is refused."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest

import rounding_reference as rounding
from fusednn import ops
from fusednn.ops import QuantizedState, quantized_state

BF16 = ml_dtypes.bfloat16
SIZES = (0, 1, 7, 97, 255, 256, 257, 1023, 1024, 1025, 5000)


def numbers(rng, n, signed):
    """Magnitudes over many octaves in each block, with zeros; a third of the blocks are tiny."""
    x = rng.standard_normal(n) * 2.0 ** rng.integers(-40, 3, n) * 2.0 ** (n % 60 - 30)
    x[np.arange(n) // 256 % 3 == 1] *= 2.0**-100
    x[rng.random(n) < 0.05] = 0
    return (x if signed else np.abs(x)).astype(np.float32)


def stepped(x, signed):
    """The state after a step whose exact result is `x`: a buffer that becomes the gradient."""
    p = np.zeros(x.shape, np.float32)
    state = quantized_state(p, signed=signed)
    if signed:
        ops.sgd_step([p], [x], [state], step=1, lr=0.0, momentum=0.5)
    else:
        ops.rmsprop_step([p], [np.sqrt(x)], [state], step=1, lr=0.0, rho=0.0)
    return state


# --- Codes ---


@pytest.mark.parametrize("signed", [True, False])
def test_every_code_stands_for_its_number(signed):
    codes = np.arange(256, dtype=np.uint8)
    for scale in (1.0, 2.0**-95, 2.0**127, 0.0, 3.0):
        state = QuantizedState(codes, np.array([scale], np.float32), signed=signed)
        expected = (rounding.code_values(signed) * scale).astype(np.float32)
        np.testing.assert_array_equal(state.dequantize(), expected)
        np.testing.assert_array_equal(np.signbit(state.dequantize()), np.signbit(expected))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("n", SIZES)
def test_assign_takes_the_nearest_code(rng, n, signed):
    x = numbers(rng, n, signed)
    state = quantized_state(x, signed=signed)
    state.assign(x)
    codes, scales = rounding.encode(x, signed, None)
    np.testing.assert_array_equal(state.codes, codes)
    np.testing.assert_array_equal(state.scales, scales)
    np.testing.assert_array_equal(state.dequantize(), rounding.decode(codes, scales, signed))
    # Within the octaves of the code half a step is at most a sixteenth of the number.
    scale = np.repeat(scales, 256)[:n]
    inside = np.abs(x) >= scale * (2.0**-15 if signed else 2.0**-31) * 1.125
    np.testing.assert_allclose(state.dequantize()[inside], x[inside], rtol=1 / 16)


@pytest.mark.parametrize("signed", [True, False])
def test_what_has_codes_keeps_them(rng, signed):
    first = stepped(numbers(rng, 5000, signed), signed)
    again = quantized_state(first.codes, signed=signed)
    again.assign(first)
    np.testing.assert_array_equal(again.dequantize(), first.dequantize())
    # A step that changes nothing: gradients of 0 and no decay.
    p = np.zeros(5000, np.float32)
    before = first.dequantize()
    zero = np.zeros(5000, np.float32)
    for step in range(2, 20):
        if signed:
            ops.sgd_step([p], [zero], [first], step=step, lr=0.0, momentum=1.0)
        else:
            ops.adagrad_step([p], [zero], [first], step=step, lr=0.0)
    np.testing.assert_array_equal(first.dequantize(), before)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("n", [*SIZES, 140_001])
def test_a_step_stores_these_codes(rng, threads, n, signed):
    x = numbers(rng, n, signed)
    if not signed:
        root = np.sqrt(x)
        x = root * root
    random = rounding.random_bits(n, stream=rounding.FIRST_STATE)
    codes, scales = rounding.encode(x, signed, random)
    state = stepped(x, signed)
    if not signed:
        state = quantized_state(x, signed=False)
        p = np.zeros(n, np.float32)
        ops.rmsprop_step([p], [root], [state], step=1, lr=0.0, rho=0.0)
    np.testing.assert_array_equal(state.scales, scales)
    np.testing.assert_array_equal(state.codes, codes)


def test_the_seed_and_the_place_in_the_list_count(rng):
    x = numbers(rng, 3000, True) + np.float32(0)  # what is added to an average of 0 is no -0
    p = [np.zeros(3000, BF16), np.zeros(3000, BF16)]
    states = [quantized_state(a) for a in p]
    how = {"step": 7, "lr": 0.0, "momentum": 0.5, "dampening": 0.0}
    ops.sgd_step(p, [x, x], states, **how, stochastic_rounding_seed=3)
    for i, state in enumerate(states):
        random = rounding.random_bits(3000, seed=3, step=7, tensor=i, stream=rounding.FIRST_STATE)
        np.testing.assert_array_equal(state.codes, rounding.encode(x, True, random)[0])
    assert states[0] != states[1]


def test_each_state_has_random_bits_of_its_own(rng):
    g = numbers(rng, 3000, True)
    p = np.zeros(3000, np.float32)
    states = [quantized_state(p, signed=signed) for signed in (True, False)]
    ops.adam_step([p], [g], *[[s] for s in states], step=1, lr=0.0, beta1=0.5, beta2=0.5)
    for place, (state, exact) in enumerate(zip(states, (g / 2, g * g / 2), strict=True)):
        random = rounding.random_bits(3000, stream=rounding.FIRST_STATE + place)
        codes, scales = rounding.encode(exact + np.float32(0), state.signed, random)
        np.testing.assert_array_equal(state.scales, scales)
        np.testing.assert_array_equal(state.codes, codes)


@pytest.mark.parametrize("signed", [True, False])
def test_blocks_that_are_not_finite(signed):
    for bad in (np.nan, np.inf, np.float32(1.9 * 2.0**127)):
        x = np.ones(1024, np.float32)
        x[300] = bad
        state = quantized_state(x, signed=signed)
        state.assign(x)
        values = state.dequantize()
        assert np.isnan(values[256:512]).all()
        np.testing.assert_array_equal(values[:256], 1)
        np.testing.assert_array_equal(values[512:], 1)
    # In a step, too.
    for bad in (np.nan, np.inf, np.float32(1.9 * 2.0**127)):
        x = np.ones(1024, np.float32)
        x[300] = bad
        state = stepped(x, signed)
        np.testing.assert_array_equal(np.isnan(state.scales), [False, True, False, False])
        assert np.isnan(state.dequantize()).sum() == 256
        assert not state.codes[256:512].any()


def test_tiny_and_huge_numbers():
    for x in (2.0**-149, 2.0**-126, 2.0**-110, 1.875 * 2.0**127):
        state = quantized_state(np.zeros(3))
        state.assign(np.array([x, -x, 0]))
        values = state.dequantize()
        assert abs(values[0] - x) <= max(x / 16, 1.125 * 2.0**-110)
        assert values[1] == -values[0]
        assert values[2] == 0
    state = quantized_state(np.zeros(3), signed=False)
    state.assign([2.0**-149, 1.0, 0.0])
    # Never zero: a second moment that were lost would let updates explode.
    assert 0 < state.dequantize()[0] < 1e-9
    assert state.dequantize()[2] == 0


@pytest.mark.parametrize("signed", [True, False])
def test_rounding_has_the_mean_of_the_number(signed):
    n = 400_000
    for low, high in ((1.0, 1.125), (0.0703125, 0.078125)):
        for fraction in (0.008, 0.3, 0.75):
            x = np.full(n, low + (high - low) * fraction, np.float32)
            x[::256] = 1.5  # the same scale for all
            if not signed:
                x = np.square(np.sqrt(x))
            found = stepped(x, signed).dequantize().reshape(-1)
            keep = np.arange(n) % 256 != 0
            exact = (float(x[1]) - low) / (high - low)
            share = (found[keep].astype(float).mean() - low) / (high - low)
            assert abs(share - exact) < 5.5 * np.sqrt(exact * (1 - exact) / n) + 1e-5
    if signed:  # below the first code, too
        x = np.full(n, 1e-5, np.float32)
        x[::256] = 1.0
        found = stepped(x, True).dequantize()
        first = 1.125 * 2.0**-15
        assert set(found[1:256]) == {0, np.float32(first)}
        share = found[np.arange(n) % 256 != 0].mean(dtype=float) / first
        assert abs(share - 1e-5 / first) < 5.5 * 0.5 / np.sqrt(n)


# --- The object ---


def test_memory():
    p = np.zeros((1000, 1024), np.float32)
    both = quantized_state(p).nbytes + quantized_state(p, signed=False).nbytes
    assert both == 2 * p.size * (1 + 4 / 256)
    assert quantized_state(np.zeros(257)).nbytes == 257 + 8


def test_a_new_state_is_zero_and_has_the_layout_of_its_parameter(make):
    for p in (np.ones((3, 4)), make.transposed(np.ones((3, 4), np.float32)), np.ones(()), []):
        p = np.asarray(p, BF16)
        state = quantized_state(p)
        assert state.shape == p.shape
        assert state.size == p.size
        assert state.codes.flags.f_contiguous == p.flags.f_contiguous
        values = state.dequantize()
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, np.zeros(p.shape))


def test_the_order_of_memory_counts(rng, make):
    x = rng.standard_normal((40, 50)).astype(np.float32)
    flat = stepped(x.T.reshape(-1).copy(), True)
    p = make.transposed(np.zeros((40, 50), np.float32))
    state = quantized_state(p)
    ops.sgd_step([p], [x], [state], step=1, lr=0.0, momentum=0.5)
    np.testing.assert_array_equal(state.codes.T.reshape(-1), flat.codes)
    np.testing.assert_array_equal(state.scales, flat.scales)
    np.testing.assert_array_equal(state.dequantize().T.reshape(-1), flat.dequantize())


def test_copies_and_files(rng):
    state = stepped(rng.standard_normal((30, 40)).astype(np.float32), True)
    for other in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        assert other == state
        assert not np.shares_memory(other.codes, state.codes)
    other.codes[0, 0] ^= 1
    assert other != state
    assert QuantizedState(state.codes, state.scales, signed=False) != state
    assert state != "state"
    assert repr(state) == "QuantizedState(shape=(30, 40), signed=True, nbytes=1220)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(state)
    nan = quantized_state(np.zeros(2))
    nan.assign([np.nan, 0])
    assert nan == copy.deepcopy(nan)


def test_training_goes_on_from_a_file(rng):
    p = rng.standard_normal(600).astype(np.float32)
    grads = rng.standard_normal((6, 600)).astype(np.float32)
    runs = []
    for stop in (0, 3):
        q, m, v = p.copy(), quantized_state(p), quantized_state(p, signed=False)
        for step, g in enumerate(grads, 1):
            if step == stop:
                q, m, v = pickle.loads(pickle.dumps((q, m, v)))
            ops.adam_step([q], [g], [m], [v], step=step, lr=0.1)
        runs.append((q, m, v))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]


def test_as_an_array(rng):
    state = stepped(rng.standard_normal(300).astype(np.float32), True)
    np.testing.assert_array_equal(np.asarray(state), state.dequantize())
    assert np.asarray(state, np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.add(state, 1), state.dequantize() + 1)
    with pytest.raises(ValueError, match="`copy` must not be False"):
        state.__array__(copy=False)


def test_a_state_that_is_not_used_is_left_alone():
    p, state = np.ones(300, np.float32), quantized_state(np.ones(300))
    state.codes[:], state.scales[:] = 77, 1
    expected = copy.deepcopy(state)
    ops.sgd_step([p], [p.copy()], [state], step=1, lr=0.1)
    assert state == expected


def test_lists_may_mix_arrays_and_states(rng):
    p = [rng.standard_normal(n).astype(np.float32) for n in (300, 10, 300)]
    g = [a.copy() for a in p]
    m = [quantized_state(p[0]), np.zeros(10, BF16), np.zeros(300, np.float32)]
    ops.sgd_step(p, g, m, step=1, lr=0.1, momentum=0.9)
    np.testing.assert_array_equal(m[2], g[2])
    np.testing.assert_array_equal(m[1], g[1].astype(BF16))
    np.testing.assert_allclose(m[0].dequantize(), g[0], rtol=1 / 8, atol=1e-4)


# --- Errors ---


def adam(p=None, m=None, v=None, **how):
    p = np.ones(300, np.float32) if p is None else p
    m = quantized_state(p) if m is None else m
    v = quantized_state(p, signed=False) if v is None else v
    before = copy.deepcopy((p, m, v))
    try:
        ops.adam_step([p], [np.ones(p.shape, p.dtype)], [m], [v], step=1, lr=0.1, **how)
    except Exception:
        np.testing.assert_array_equal(p, before[0])
        np.testing.assert_array_equal(m, before[1])
        np.testing.assert_array_equal(v, before[2])
        raise


def test_the_wrong_kind_of_code():
    p = np.ones(300, np.float32)
    message = r"`exp_avg_sqs\[0\]` must be a quantized state with signed=False\. Received: a signed"
    with pytest.raises(TypeError, match=message):
        adam(v=quantized_state(p))
    message = r"`exp_avgs\[0\]` must be a quantized state with signed=True\. Received: an unsigned"
    with pytest.raises(TypeError, match=message):
        adam(m=quantized_state(p, signed=False))


def test_states_that_bear_no_codes():
    p = np.ones(300, np.float32)
    m, v = quantized_state(p), quantized_state(p, signed=False)
    zeros = np.zeros(300, np.float32)
    with pytest.raises(TypeError, match=r"`exp_avg_sqs\[0\]` must be float32.* `amsgrad` is used"):
        adam(amsgrad=True, max_exp_avg_sqs=[zeros])
    with pytest.raises(TypeError, match=r"`max_exp_avg_sqs\[0\]` must be float32, bfloat16"):
        adam(v=zeros.copy(), amsgrad=True, max_exp_avg_sqs=[v])
    how = {"step": 1, "lr": 0.1, "centered": True}
    with pytest.raises(TypeError, match=r"`square_avgs\[0\]` must be float32.* `centered` is"):
        ops.rmsprop_step([p], [zeros], [v], grad_avgs=[zeros.copy()], **how)
    with pytest.raises(TypeError, match=r"`grad_avgs\[0\]` must be float32, bfloat16 or float16"):
        ops.rmsprop_step([p], [zeros], [zeros.copy()], grad_avgs=[m], **how)


def test_what_is_no_state():
    p, state = np.ones(300, np.float32), quantized_state(np.ones(300))
    with pytest.raises(TypeError, match=r"`grads\[0\]` must be an array of NumPy.*QuantizedState"):
        ops.sgd_step([p], [state], None, step=1, lr=0.1)
    with pytest.raises(TypeError, match=r"`ema\[0\]` must be an array of NumPy.*QuantizedState"):
        ops.sgd_step([p], [p.copy()], None, step=1, lr=0.1, ema=[state])
    with pytest.raises(TypeError, match=r"`params\[0\]` must be an array of NumPy.*QuantizedState"):
        ops.sgd_step([state], [p], None, step=1, lr=0.1)
    with pytest.raises(
        TypeError, match=r"`momentum_buffers\[0\]` must be an array of NumPy.*=list"
    ):
        ops.sgd_step([p], [p.copy()], [[1.0]], step=1, lr=0.1)
    with pytest.raises(TypeError, match=r"`momentum_buffers` must be a list .*QuantizedState"):
        ops.sgd_step([p], [p.copy()], state, step=1, lr=0.1)


def test_float64_parameters():
    p = np.ones(300)
    with pytest.raises(TypeError, match=r"`exp_avgs\[0\]` must be float64 .* a signed quantized"):
        adam(p, v=np.zeros(300))


def test_codes_and_scales_that_do_not_fit(make):
    p = np.ones((3, 100), np.float32)
    with pytest.raises(ValueError, match=r"`exp_avgs\[0\]` must have the shape of `params\[0\]`"):
        adam(p, m=quantized_state(np.ones((100, 3))))
    with pytest.raises(ValueError, match=r"`exp_avgs\[0\]` must have the memory layout of"):
        adam(p, m=quantized_state(make.transposed(p)))
    for attribute in ("codes", "scales"):
        state = quantized_state(p)
        setattr(state, attribute, make.read_only(getattr(state, attribute)))
        with pytest.raises(ValueError, match=r"`exp_avgs\[0\](.scales)?` must be writable"):
            adam(p, m=state)
    for attribute, wrong, error, message in (
        ("scales", np.zeros(3, np.float32), ValueError, r"scales` must have shape \(2,\)"),
        ("scales", np.zeros(2), TypeError, r"scales` must be float32"),
        ("codes", np.zeros((3, 100), np.int8), TypeError, r"codes` must be uint8"),
    ):
        state = quantized_state(p)
        setattr(state, attribute, wrong)
        with pytest.raises(error, match=r"`momentum_buffers\[0\]." + message):
            ops.sgd_step([p], [p.copy()], [state], step=1, lr=0.1, momentum=0.5)
        np.testing.assert_array_equal(p, 1)


def test_memory_given_twice():
    p = [np.ones(300, np.float32), np.ones(300, np.float32)]
    state = quantized_state(p[0])
    how = {"step": 1, "lr": 0.1, "momentum": 0.5}
    with pytest.raises(ValueError, match=r"`momentum_buffers\[1\](.scales)?` must not overlap"):
        ops.sgd_step(p, [p[0].copy()] * 2, [state, state], **how)
    other = quantized_state(p[0])
    other.scales = state.scales
    message = r"`momentum_buffers\[.\].scales` must not overlap `momentum_buffers\[.\].scales`"
    with pytest.raises(ValueError, match=message):
        ops.sgd_step(p, [p[0].copy()] * 2, [state, other], **how)


@pytest.mark.parametrize(
    ("codes", "scales", "signed", "error", "message"),
    [
        ([1], np.zeros(1, np.float32), True, TypeError, "`codes` must be a NumPy array"),
        (np.zeros(3), np.zeros(1, np.float32), True, TypeError, "`codes` must be uint8.*float64"),
        (np.zeros(3, np.uint8), np.zeros(1), True, TypeError, "`scales` must be float32"),
        (np.zeros(257, np.uint8), np.zeros(1, np.float32), True, ValueError, r"shape \(2,\)"),
        (np.zeros(3, np.uint8), np.zeros(1, np.float32), 1, TypeError, "`signed` must be True or"),
    ],
)
def test_construction_is_checked(codes, scales, signed, error, message):
    with pytest.raises(error, match=message):
        QuantizedState(codes, scales, signed=signed)


def test_arguments_of_functions_are_checked():
    with pytest.raises(
        TypeError, match=r"`like` must be an array of NumPy, .* Received: type=list"
    ):
        quantized_state([1.0])
    state = quantized_state(np.zeros(3), signed=False)
    with pytest.raises(ValueError, match=r"`values` must have shape \(3,\)\. Received: .*\(2,\)"):
        state.assign([1.0, 2.0])
    with pytest.raises(
        ValueError, match=r"`values` must not be negative .* unsigned\. Received: -2"
    ):
        state.assign([1.0, -2.0, 1.0])
    np.testing.assert_array_equal(state, np.zeros(3))
