"""bfloat16 rounded at random: which bits, that they are random, and what they are for."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import rounding_reference as rounding
from fusednn import ops

BF16 = ml_dtypes.bfloat16
# Fails by chance once in 10^7 runs, were the seeds not fixed.
SIGMAS = 5.5


def stored(x: np.ndarray, seed: int | None, step: int = 1, place: int = 0) -> np.ndarray:
    """What a step stores whose exact result is the float32 array `x`, `place` arrays behind."""
    params = [np.zeros(3, BF16) for _ in range(place)]
    params.append(np.zeros(x.shape, BF16))
    grads = [np.zeros(3, BF16) for _ in range(place)] + [-x]
    ops.sgd_step(params, grads, None, step=step, lr=1.0, stochastic_rounding_seed=seed)
    return params[-1]


def equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    nan = np.isnan(a.astype(np.float32))
    same = a.view(np.uint16) == b.view(np.uint16)
    return a.dtype == b.dtype and bool(np.all(same | (nan & np.isnan(b.astype(np.float32)))))


def numbers(rng: np.random.Generator, n: int) -> np.ndarray:
    """Every exponent, both signs; now and then a number that bfloat16 has."""
    bits = rng.integers(0, 2**32, n, dtype=np.uint32)
    bits[::7] &= 0xFFFF0000
    x = bits.view(np.float32)
    return np.where(np.isnan(x), np.float32(1.25), x)


# --- The very bits ---


@pytest.mark.parametrize("n", [1, 7, 97, 1023, 1024, 1025, 5000, 140_001])
def test_stored_bits(rng, threads, n):
    x = numbers(rng, n)
    x[x == 0] = 0  # 0 - (-0) is no -0
    for seed, step, place in ((0, 1, 0), (2**64 - 1, 3, 1), (12345, 2**40, 2)):
        random = rounding.random_bits(n, seed=seed, step=step, tensor=place)
        assert equal_bits(stored(x, seed, step, place), rounding.round_bfloat16(x, random))


def test_special_numbers():
    top = float(ml_dtypes.finfo(BF16).max)
    x = np.array([0, np.inf, -np.inf, np.nan, top, -top, 1e-45, 1.0], np.float32)
    x = np.repeat(x, 1000)
    found = stored(x, 3).astype(np.float32).reshape(8, 1000)
    for row, value in zip(found, (0, np.inf, -np.inf, np.nan, top, -top), strict=False):
        np.testing.assert_array_equal(row, np.float32(value))
    assert set(found[6]) <= {0, np.float32(2.0**-133)}
    np.testing.assert_array_equal(found[7], 1)
    # Half way between the largest number and what would follow: infinity every second time.
    beyond = np.full(40_000, np.float32(top) + np.float32(2.0**119), np.float32)
    found = stored(beyond, 3).astype(np.float32)
    assert set(found) == {np.float32(top), np.float32(np.inf)}
    assert abs(np.isinf(found).mean() - 0.5) < SIGMAS * 0.5 / 200


def test_every_nan_becomes_the_same_one():
    """Whatever its payload: with random bits added some would become infinity or zero."""
    bits = np.array([0x7F800001, 0x7FBFFFFF, 0x7FC0FFFF, 0x7FFFFFFF], np.uint32)
    x = np.repeat(np.concatenate([bits, bits | 0x80000000]).view(np.float32), 100)
    for values in (x, np.append(x, np.float32(1)), x[:3]):  # whole vectors, and what is left
        found = stored(values, 3).view(np.uint16)[: min(values.size, x.size)]
        np.testing.assert_array_equal(found, 0x7FC0)


def test_without_a_seed_it_is_to_nearest(rng):
    x = numbers(rng, 5000)
    assert equal_bits(stored(x, None), (x + np.float32(0)).astype(BF16))
    assert not equal_bits(stored(x, 0), stored(x, None))


def test_states_and_averages_too_but_copies_to_nearest(rng):
    n = 3000
    g = rng.standard_normal(n).astype(np.float32)
    p, ema, m, copy = (np.zeros(n, BF16) for _ in range(4))
    how = {"step": 1, "lr": 1.0, "momentum": 0.5, "stochastic_rounding_seed": 9}
    ops.sgd_step([p], [g], [m], ema=[ema], low_precision_copies=[copy], **how)

    def expected(x, stream):
        return rounding.round_bfloat16(x, rounding.random_bits(n, seed=9, stream=stream))

    assert equal_bits(p, expected(-g, rounding.PARAM))
    assert equal_bits(ema, expected(-g, rounding.EMA))
    assert equal_bits(m, expected(g, rounding.FIRST_STATE))
    assert equal_bits(copy, (-g).astype(BF16))


def test_each_state_has_random_bits_of_its_own(rng):
    n = 3000
    g = rng.standard_normal(n).astype(np.float32)
    p, *states = (np.zeros(n, BF16) for _ in range(4))
    how = {"step": 1, "lr": 1.0, "beta1": 0.5, "beta2": 0.5, "amsgrad": True}
    lists = [[state] for state in states]
    ops.adam_step([p], [g], *lists[:2], max_exp_avg_sqs=lists[2], **how, stochastic_rounding_seed=9)
    for place, (state, exact) in enumerate(zip(states, (g / 2, g * g / 2, g * g / 2), strict=True)):
        random = rounding.random_bits(n, seed=9, stream=rounding.FIRST_STATE + place)
        assert equal_bits(state, rounding.round_bfloat16(exact, random))


def test_a_float32_state_is_exact(rng):
    g = rng.standard_normal(2000).astype(np.float32)
    p, m = np.zeros(2000, BF16), np.zeros(2000, np.float32)
    ops.sgd_step([p], [g], [m], step=1, lr=1.0, momentum=0.5, stochastic_rounding_seed=0)
    np.testing.assert_array_equal(m, g)


def test_layout_and_misalignment_change_no_bit(rng, make):
    x = numbers(rng, 6000).reshape(60, 100)
    expected = stored(x.T.copy(), 4)
    for p in (make.transposed(np.zeros((60, 100), BF16)), make.offset(np.zeros((100, 60), BF16))):
        g = -(x if p.shape == x.shape else x.T)
        ops.sgd_step([p], [g], None, step=1, lr=1.0, stochastic_rounding_seed=4)
        # In the order of memory.
        assert equal_bits((p.T if p.shape == x.shape else p).copy(), expected)


# --- Randomness ---

KEYS = [
    {"seed": 0, "step": 1, "tensor": 0, "stream": 0},
    {"seed": 1, "step": 1, "tensor": 0, "stream": 0},
    {"seed": 2**63, "step": 1, "tensor": 0, "stream": 0},
    {"seed": 0, "step": 2, "tensor": 0, "stream": 0},
    {"seed": 0, "step": 1, "tensor": 1, "stream": 0},
    {"seed": 0, "step": 1, "tensor": 0, "stream": 1},
    {"seed": 0, "step": 2**20, "tensor": 511, "stream": 3},
]
N = 1 << 19


def centred(**key: int) -> np.ndarray:
    return rounding.random_bits(N, **key) / 2.0**32 - 0.5


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_bits_are_uniform(key):
    bits = rounding.random_bits(N, **key)
    for place in range(32):
        ones = (bits >> place & 1).mean()
        assert abs(ones - 0.5) < SIGMAS * 0.5 / np.sqrt(N), f"bit {place}"
    # The 16 bits that round bfloat16, in 1,024 classes: chi-square with 1,023 degrees of freedom.
    counts = np.bincount(bits >> 22, minlength=1024)
    chi2 = ((counts - N / 1024) ** 2 / (N / 1024)).sum()
    assert abs(chi2 - 1023) < SIGMAS * np.sqrt(2 * 1023)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_neighbours_are_independent(key):
    u = centred(**key)
    bits = rounding.random_bits(N, **key)
    for lag in (1, 2, 3, 4, 8, 16, 32, 255, 256, 1023, 1024, 1025, 2048):
        correlation = (u[lag:] * u[:-lag]).mean() * 12
        assert abs(correlation) < SIGMAS / np.sqrt(N - lag), f"lag {lag}"
        # Bit by bit: of 32 a pair differs in 16 on average.
        differing = 8 * np.unpackbits((bits[lag:] ^ bits[:-lag]).view(np.uint8)).mean() * 4
        assert abs(differing - 16) < SIGMAS * np.sqrt(8 / (N - lag)), f"lag {lag}"
    # Three in a row, as squares and products.
    assert abs((u[:-2] * u[1:-1] * u[2:]).mean()) < SIGMAS * 12**-1.5 / np.sqrt(N)
    squares = u**2 - 1 / 12
    assert abs((squares[1:] * squares[:-1]).mean()) < SIGMAS * (1 / 180) / np.sqrt(N)


@pytest.mark.parametrize("a", range(len(KEYS)))
def test_seeds_steps_arrays_and_streams_are_independent(a):
    for b in range(a):
        correlation = (centred(**KEYS[a]) * centred(**KEYS[b])).mean() * 12
        assert abs(correlation) < SIGMAS / np.sqrt(N), (KEYS[a], KEYS[b])


def test_successive_steps_of_one_element_are_random():
    """The roundings that one parameter sees over a training run."""
    bits = np.array([rounding.random_bits(4, step=s) for s in range(1, 20_001)])
    u = bits / 2.0**32 - 0.5
    assert np.all(np.abs(u.mean(0)) < SIGMAS / np.sqrt(12 * 20_000))
    for lag in (1, 2, 3, 10):
        correlation = (u[lag:] * u[:-lag]).mean(0) * 12
        assert np.all(np.abs(correlation) < SIGMAS / np.sqrt(20_000 - lag))


@pytest.mark.parametrize("fraction", [1 / 65536, 0.01, 0.25, 0.5, 0.75, 0.999])
@pytest.mark.parametrize("low", [1.0, -3.0, 2.0**-130, 2.0**100])
def test_rounding_has_the_mean_of_the_number(low, fraction):
    spacing = max(2.0 ** (np.floor(np.log2(abs(low))) - 7), 2.0**-133)
    x = np.full(200_000, low + np.sign(low) * spacing * fraction, np.float32)
    share = (stored(x, 1).astype(np.float64).mean() - low) / (np.sign(low) * spacing)
    exact = (float(x[0]) - low) / (np.sign(low) * spacing)
    assert abs(share - exact) <= SIGMAS * np.sqrt(exact * (1 - exact) / x.size)


# --- What it is for ---


def test_small_updates_stall_to_nearest_and_converge_at_random():
    """A quadratic with a minimum at 3, from 1, in steps below half of bfloat16's spacing."""
    final = {}
    for seed in (None, 5):
        p = np.full(2000, 1.0, BF16)
        for step in range(1, 4001):
            grad = p.astype(np.float32) - 3
            ops.sgd_step([p], [grad], None, step=step, lr=1e-3, stochastic_rounding_seed=seed)
        final[seed] = p.astype(np.float64)
    np.testing.assert_array_equal(final[None], 1.0)
    exact = 3 - 2 * (1 - 1e-3) ** 4000
    assert abs(final[5].mean() - exact) < 0.01
    assert final[5].std() < 0.1


def test_logistic_regression_in_bfloat16(rng):
    """Loss after training: at random near float32's, to nearest far from it."""
    x = rng.standard_normal((400, 50)).astype(np.float32)
    y = (x @ rng.standard_normal(50) > 0).astype(np.float32)

    def loss_and_grad(w):
        p = 1 / (1 + np.exp(-(x @ w)))
        eps = 1e-7
        loss = -np.mean(y * np.log(p + eps) + (1 - y) * np.log(1 - p + eps))
        return loss, x.T @ (p - y) / np.float32(len(y))

    def trained(dtype, seed):
        w, m, v = np.full(50, 0.5, dtype), np.zeros(50, np.float32), np.zeros(50, np.float32)
        for step in range(1, 1501):
            _, grad = loss_and_grad(w.astype(np.float32))
            how = {"step": step, "lr": 5e-4, "stochastic_rounding_seed": seed}
            ops.adam_step([w], [grad], [m], [v], **how)
        return loss_and_grad(w.astype(np.float32))[0]

    exact = trained(np.float32, None)
    start = loss_and_grad(np.full(50, 0.5, np.float32))[0]
    assert exact < 0.6 * start
    assert abs(trained(BF16, 11) - exact) < 0.05 * start
    assert trained(BF16, None) > exact + 0.2 * start


def test_a_run_can_be_repeated(rng):
    x = numbers(rng, 4000)
    assert equal_bits(stored(x, 42), stored(x, 42))
    for other in ({"seed": 43}, {"seed": 42, "step": 2}, {"seed": 42, "place": 1}):
        assert not equal_bits(stored(x, 42), stored(x, **other))


def test_numpy_integers_are_seeds(rng):
    x = numbers(rng, 100)
    assert equal_bits(stored(x, np.uint64(2**64 - 1)), stored(x, 2**64 - 1))


# --- Errors ---


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, r"`stochastic_rounding_seed` must be in \[0, 2\*\*64\)\. Received: .*=-1"),
        (2**64, ValueError, r"`stochastic_rounding_seed` must be in \[0, 2\*\*64\)"),
        (True, TypeError, "`stochastic_rounding_seed` must be an integer or None. .*=True"),
        (1.5, TypeError, "`stochastic_rounding_seed` must be an integer or None. .*=1.5"),
        ("1", TypeError, "`stochastic_rounding_seed` must be an integer or None. .*='1'"),
    ],
)
def test_seeds_are_refused_by_name(seed, error, message):
    p = np.ones(5, BF16)
    with pytest.raises(error, match=message):
        ops.sgd_step([p], [p.copy()], None, step=1, lr=1.0, stochastic_rounding_seed=seed)
    np.testing.assert_array_equal(p, np.ones(5, BF16))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_other_parameters_are_refused_by_name(dtype):
    # float64 beside shorter types is refused with or without a seed.
    p = [np.ones(5, BF16)] * (dtype != np.float64) + [np.ones(5, dtype)]
    g = [x.copy() for x in p]
    message = (
        rf"`params\[{len(p) - 1}\]` must be bfloat16 where `stochastic_rounding_seed` is given\. "
        f"Received: dtype={np.dtype(dtype)}"
    )
    with pytest.raises(TypeError, match=message):
        ops.sgd_step(p, g, None, step=1, lr=1.0, stochastic_rounding_seed=0)
    assert all((x == 1).all() for x in p)
