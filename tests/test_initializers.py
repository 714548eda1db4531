"""The initializers: distributions, fans, seeds, names."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fusednn import initializers, utils
from fusednn.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

SHAPE = (300, 700)
SCALED = {
    GlorotNormal: (2 / 1000, "normal"),
    GlorotUniform: (2 / 1000, "uniform"),
    HeNormal: (2 / 300, "normal"),
    HeUniform: (2 / 300, "uniform"),
    LecunNormal: (1 / 300, "normal"),
    LecunUniform: (1 / 300, "uniform"),
}
RANDOM = [RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling, *SCALED]


def check_variance(values, variance):
    """The sample variance of n draws is within six of its own standard deviations."""
    n = values.size
    # The kurtosis of the distributions here is at most 3: var(s^2) <= 2 variance^2 / n.
    assert abs(values.astype(np.float64).var() / variance - 1) < 6 * math.sqrt(2 / n)
    assert abs(values.astype(np.float64).mean()) < 6 * math.sqrt(variance / n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cls", SCALED)
def test_variance_and_limits(rng, cls, dtype):
    variance, distribution = SCALED[cls]
    values = cls()(SHAPE, dtype, rng)
    assert values.shape == SHAPE
    assert values.dtype == dtype
    assert values.flags.c_contiguous
    check_variance(values, variance)
    stddev = math.sqrt(variance)
    limit = math.sqrt(3) * stddev if distribution == "uniform" else 2 * stddev / 0.87962566103423978
    largest = np.abs(values).max()
    assert 0.999 * limit < largest <= limit * (1 + 1e-6)


@pytest.mark.parametrize(("mode", "n"), [("fan_in", 300), ("fan_out", 700), ("fan_avg", 500)])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_variance_scaling(rng, mode, n, distribution):
    values = VarianceScaling(3.0, mode, distribution)(SHAPE, rng=rng)
    check_variance(values, 3.0 / n)
    beyond = (np.abs(values) > 2 / 0.8796 * math.sqrt(3.0 / n)).mean()
    assert (beyond > 0) == (distribution == "untruncated_normal")


def test_plain_distributions(rng):
    normal = RandomNormal(1.0, 0.5)(SHAPE, rng=rng)
    check_variance(normal - 1.0, 0.25)
    assert (np.abs(normal - 1) > 1.0).mean() == pytest.approx(0.0455, abs=0.003)
    truncated = TruncatedNormal(1.0, 0.5)(SHAPE, rng=rng)
    check_variance(truncated - 1.0, (0.5 * 0.87962566103423978) ** 2)
    assert np.abs(truncated - 1).max() <= 1.0 + 1e-6
    uniform = RandomUniform(-1.0, 3.0)(SHAPE, rng=rng)
    check_variance(uniform - 1.0, 16 / 12)
    assert -1 <= uniform.min() < -0.999
    assert 2.999 < uniform.max() <= 3
    assert RandomNormal().get_config() == {"seed": None, "mean": 0.0, "stddev": 0.05}
    assert RandomUniform().get_config() == {"seed": None, "minval": -0.05, "maxval": 0.05}


def test_constants():
    np.testing.assert_array_equal(Zeros()((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(Ones()((2, 3)), np.ones((2, 3)))
    np.testing.assert_array_equal(Constant(0.5)((2, 3)), np.full((2, 3), 0.5))
    assert Constant(0.5)((2, 3), "float64").dtype == np.float64
    assert Zeros()((4,)).dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((), (1, 1)),
        ((5,), (5, 5)),
        ((3, 7), (3, 7)),
        ((3, 3, 16, 32), (144, 288)),
        ((2, 5, 6), (10, 12)),
        ((0, 4), (0, 4)),
    ],
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize("cls", RANDOM)
def test_seeds(cls):
    seeded = cls(seed=7)
    np.testing.assert_array_equal(seeded((4, 5)), seeded((4, 5)))
    np.testing.assert_array_equal(seeded((4, 5)), cls(seed=7)((4, 5)))
    np.testing.assert_array_equal(seeded((4, 5), rng=np.random.default_rng(1)), seeded((4, 5)))
    assert not np.array_equal(seeded((4, 5)), cls(seed=8)((4, 5)))
    plain = cls()
    utils.set_random_seed(3)
    first, second = plain((4, 5)), plain((4, 5))
    assert not np.array_equal(first, second)
    utils.set_random_seed(3)
    np.testing.assert_array_equal(plain((4, 5)), first)
    mine = plain((4, 5), rng=np.random.default_rng(1))
    np.testing.assert_array_equal(mine, plain((4, 5), rng=np.random.default_rng(1)))
    np.testing.assert_array_equal(plain((4, 5)), second)  # `rng` left the global one alone


@pytest.mark.parametrize("cls", RANDOM)
def test_any_shape_and_dtype(cls, rng):
    assert cls()((0, 3), rng=rng).shape == (0, 3)
    assert cls()((), rng=rng).shape == ()
    assert cls()([2, 2, 3, 4], rng=rng).shape == (2, 2, 3, 4)
    assert cls()((7,), np.float16, rng).dtype == np.float16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomNormal(stddev=-1.0), "`stddev` must be a finite number >= 0"),
        (lambda: RandomNormal(mean=float("nan")), "`mean` must be a finite number. Received"),
        (lambda: RandomUniform(1.0, 0.0), "`maxval` must be a finite number >= 1. Received"),
        (lambda: VarianceScaling(0.0), "`scale` must be a finite number > 0. Received: scale=0.0"),
        (lambda: VarianceScaling(mode="fan"), "`mode` must be .* Received: mode='fan'"),
        (lambda: VarianceScaling(distribution="cauchy"), "`distribution` must be .*'cauchy'"),
        (lambda: HeNormal(seed=-1), "`seed` must be an integer >= 0 or None. Received: seed=-1"),
        (lambda: HeNormal(seed=1.5), "`seed` must be an integer >= 0 or None"),
        (lambda: Constant(float("inf")), "`value` must be a finite number"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("identifier", "cls"),
    [
        ("zeros", Zeros),
        ("ones", Ones),
        ("he_normal", HeNormal),
        ("HeNormal", HeNormal),
        ("glorot_uniform", GlorotUniform),
        ("lecun_uniform", LecunUniform),
        ("random_normal", RandomNormal),
        ("normal", RandomNormal),
        ("uniform", RandomUniform),
        ("variance_scaling", VarianceScaling),
        (Ones, Ones),
    ],
)
def test_get(identifier, cls):
    assert type(initializers.get(identifier)) is cls


@pytest.mark.parametrize("initializer", [cls(seed=5) for cls in RANDOM] + [Constant(2.0), Zeros()])
def test_config_makes_an_equal_initializer(initializer):
    assert initializers.get(initializer) is initializer
    entry = json.loads(json.dumps(initializers.serialize(initializer)))
    again = initializers.get(entry)
    assert type(again) is type(initializer)
    np.testing.assert_array_equal(again((3, 4)), initializer((3, 4)))


def test_configs_of_keras():
    config = {"seed": None, "input_axes": None, "output_axes": None}
    assert type(HeNormal.from_config(config)) is HeNormal
    with pytest.raises(ValueError, match="`input_axes` of HeNormal must be off"):
        HeNormal.from_config(config | {"input_axes": [0]})
    for wrong in ("he", None, 3):
        with pytest.raises(ValueError, match="`initializer` must be an initializer object"):
            initializers.get(wrong)


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (3, 3, 2, 5), (2, 2, 1, 9)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_orthogonal(shape, dtype):
    w = Orthogonal(gain=2.0, seed=1)(shape, dtype)
    assert w.shape == shape
    assert w.dtype == dtype
    assert w.flags.c_contiguous
    flat = w.reshape(-1, shape[-1])
    product = flat.T @ flat if len(flat) >= shape[-1] else flat @ flat.T
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)
    with pytest.raises(ValueError, match=r"`shape` of `Orthogonal` must have at least 2 axes"):
        Orthogonal()((3,))


def test_identity():
    np.testing.assert_array_equal(Identity(0.5)((2, 3)), [[0.5, 0, 0], [0, 0.5, 0]])
    assert initializers.get("identity").gain == 1
    with pytest.raises(ValueError, match=r"`shape` of `Identity` must have 2 axes"):
        Identity()((2, 3, 4))


def test_names_in_snake_case_are_the_classes():
    assert initializers.he_normal is HeNormal
    assert initializers.zeros is Zeros
    assert isinstance(initializers.get("orthogonal"), Orthogonal)
    assert initializers.deserialize(initializers.serialize(Orthogonal(2.0))).gain == 2.0
