"""The reference itself, by finite differences, identities and numbers worked out on paper."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import reference as ref


def slope_of(f, at: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """The gradient of the scalar function `f` by central differences."""
    gradient = np.empty_like(at)
    for i in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[i] = h
        gradient[i] = (f(at + step) - f(at - step)) / (2 * h)
    return gradient


@pytest.fixture
def batch(rng):
    """x, gamma, beta and a weight for each output, two of three axes being summed over."""
    x, weight = rng.standard_normal((2, 4, 3, 5))
    return x, rng.uniform(0.5, 2, 3), rng.standard_normal(3), weight


@pytest.mark.parametrize("slope", [None, 0.0, 0.01])
def test_leaky_relu_backward(rng, slope):
    x, weight = rng.standard_normal((2, 3, 4))
    numeric = slope_of(lambda x: (weight * ref.leaky_relu(x, slope)).sum(), x)
    np.testing.assert_allclose(ref.leaky_relu_backward(weight, x, slope), numeric, atol=1e-8)


@pytest.mark.parametrize("slope", [None, 0.0, 0.2])
@pytest.mark.parametrize("axis", [1, -1])
def test_batch_norm_backward(batch, slope, axis):
    x, gamma, beta, weight = batch
    if axis == -1:
        x, weight = np.moveaxis(x, 1, -1), np.moveaxis(weight, 1, -1)

    def loss(x, gamma, beta):
        return (weight * ref.batch_norm_forward(x, gamma, beta, 1e-3, slope, axis)[0]).sum()

    _, mean, inv_std = ref.batch_norm_forward(x, gamma, beta, 1e-3, slope, axis)
    grads = ref.batch_norm_backward(weight, x, gamma, beta, mean, inv_std, slope, axis)
    numeric = (
        slope_of(lambda v: loss(v, gamma, beta), x),
        slope_of(lambda v: loss(x, v, beta), gamma),
        slope_of(lambda v: loss(x, gamma, v), beta),
    )
    for got, want in zip(grads, numeric, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-7)


@pytest.mark.parametrize("slope", [None, 0.2])
def test_batch_norm_backward_from_output(batch, slope):
    x, gamma, beta, weight = batch
    y, mean, inv_std = ref.batch_norm_forward(x, gamma, beta, negative_slope=slope)
    from_x = ref.batch_norm_backward(weight, x, gamma, beta, mean, inv_std, slope)
    from_y = ref.batch_norm_backward_from_output(weight, y, gamma, beta, inv_std, slope)
    for got, want in zip(from_y, from_x, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("slope", [None, 0.2])
def test_batch_norm_inference_backward(batch, rng, slope):
    x, gamma, beta, weight = batch
    running = rng.standard_normal(3), rng.uniform(0.5, 2, 3)

    def loss(x, gamma, beta):
        y = ref.batch_norm_inference(x, gamma, beta, *running, 1e-3, slope)
        return (weight * y).sum()

    grads = ref.batch_norm_inference_backward(weight, x, gamma, beta, *running, 1e-3, slope)
    numeric = (
        slope_of(lambda v: loss(v, gamma, beta), x),
        slope_of(lambda v: loss(x, v, beta), gamma),
        slope_of(lambda v: loss(x, gamma, v), beta),
    )
    for got, want in zip(grads, numeric, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-7)


def test_batch_norm_statistics_against_numpy(rng):
    x = rng.standard_normal((4, 3, 5))
    mean, m2, count = ref.batch_norm_statistics(x)
    np.testing.assert_allclose(mean, x.mean((0, 2)))
    np.testing.assert_allclose(m2, x.var((0, 2)) * 20)
    assert count == 20
    running = ref.running_statistics(x, np.ones(3), np.ones(3), 0.25, unbiased=True)
    np.testing.assert_allclose(running[0], 0.75 + 0.25 * mean)
    np.testing.assert_allclose(running[1], 0.75 + 0.25 * x.var((0, 2), ddof=1))


def test_merge_statistics_is_the_statistics_of_the_union(rng):
    x = rng.standard_normal((9, 3, 5))
    parts = [ref.batch_norm_statistics(part) for part in (x[:1], x[1:1], x[1:7], x[7:])]
    for got, want in zip(ref.merge_statistics(parts), ref.batch_norm_statistics(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)


def trajectory(kind, rng, convention, steps=4, **options):
    rng = np.random.default_rng(5)
    params = [rng.standard_normal(6)]
    states = ref.initial_states(kind, params, options)
    for step in range(1, steps + 1):
        grads = [rng.standard_normal(6)]
        how = {"convention": convention, "step": step, "lr": 0.1}
        assert ref.optimizer_step(kind, params, grads, states, **how, **options)
    return params[0]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sgd", {"momentum": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("adagrad", {"eps": 0.0}),
        ("rmsprop", {"eps": 0.0, "rho": 0.9}),
        ("rmsprop", {"eps": 0.0, "rho": 0.9, "momentum": 0.5, "centered": True}),
        ("adam", {"eps": 0.0}),
    ],
    ids=ref.case_id,
)
def test_conventions_agree_where_they_only_place_epsilon_and_the_rate_elsewhere(kind, options, rng):
    torch, keras = (trajectory(kind, rng, c, **options) for c in ("torch", "keras"))
    np.testing.assert_allclose(torch, keras, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "convention", "options", "expected"),
    [
        # From p = 1 with g = 2, then g = -1, at a rate of 0.5.
        ("sgd", "torch", {}, 1 - 1 + 0.5),
        ("sgd", "torch", {"momentum": 0.5}, 1 - 1 - 0.5 * (0.5 * 2 - 1)),
        ("sgd", "torch", {"momentum": 0.5, "dampening": 0.5}, 1 - 1 - 0.5 * (0.5 * 2 - 0.5)),
        ("sgd", "keras", {"momentum": 0.5, "nesterov": True}, 1 - 1.5 - (0.5 * 0 - 0.5)),
        ("sgd", "torch", {"maximize": True}, 1 + 1 - 0.5),
        ("sgd", "torch", {"grad_scale": 2.0, "clip_value": 0.75}, 1 - 0.375 + 0.25),
        ("sgd", "torch", {"weight_decay": 0.5}, 0.75 * (0.75 * 1 - 1) + 0.5),
        ("sgd", "keras", {"weight_decay": 0.5}, 0.75 * (0.75 * 1 - 1) + 0.5),
        ("adagrad", "torch", {"eps": 1.0}, 1 - 1 / 3 + 0.5 / (5**0.5 + 1)),
        ("adagrad", "torch", {"eps": 1.0, "lr_decay": 1.0}, 1 - 1 / 3 + 0.25 / (5**0.5 + 1)),
        ("adagrad", "keras", {"eps": 1.0}, 1 - 1 / 5**0.5 + 0.5 / 6**0.5),
        ("rmsprop", "torch", {"rho": 0.5, "eps": 1.0}, 1 - 1 / (2**0.5 + 1) + 0.5 / (1.5**0.5 + 1)),
        ("rmsprop", "keras", {"rho": 0.5, "eps": 1.0}, 1 - 1 / 3**0.5 + 0.5 / 2.5**0.5),
        ("adam", "torch", {"beta1": 0.5, "beta2": 0.5, "eps": 1.0}, 1 - 1 / 3),
        ("adam", "keras", {"beta1": 0.5, "beta2": 0.5, "eps": 0.0}, 0.5),
        ("sgd", "tf1", {"momentum": 0.5, "nesterov": True}, 1 - 1.5 - 0.5 * (-1 + 0.5 * 0)),
        ("sgd", "optax", {"momentum": 0.5}, 1 - 1 - 0.5 * (0.5 * 2 - 1)),
        ("sgd", "optax", {"weight_decay": 0.5}, 0.75 * (0.75 * 1 - 1) + 0.5),
        ("sgd", "onnx", {"momentum": 0.5, "dampening": 0.75}, 1 - 1 - 0.5 * (0.5 * 2 - 0.25)),
        ("sgd", "onnx", {"dampening": 0.75}, 1 - 1 + 0.125),
        ("sgd", "mlx", {"momentum": 0.5, "dampening": 0.5}, 1 - 0.5 - 0.5 * (0.5 - 0.5)),
        ("adagrad", "tf1", {}, 1 - 0.5 + 0.5 / 5**0.5),
        ("adagrad", "optax", {"eps": 1.0}, 1 - 1 / 5**0.5 + 0.5 / 6**0.5),
        ("adagrad", "onnx", {"eps": 1.0, "lr_decay": 1.0}, 1 - 1 / 3 + 0.25 / (5**0.5 + 1)),
        ("adagrad", "mlx", {"eps": 1.0}, 1 - 1 / 3 + 0.5 / (5**0.5 + 1)),
        ("rmsprop", "tf1", {"rho": 0.5, "eps": 1.0}, 1 - 1 / 3**0.5 + 0.5 / 2.5**0.5),
        ("rmsprop", "optax", {"rho": 0.5, "eps": 1.0}, 1 - 1 / 3**0.5 + 0.5 / 2.5**0.5),
        ("rmsprop", "mlx", {"rho": 0.5, "eps": 1.0}, 1 - 1 / (2**0.5 + 1) + 0.5 / (1.5**0.5 + 1)),
        ("adam", "tf1", {"beta1": 0.5, "beta2": 0.5, "eps": 1.0}, 1 - 0.5**0.5 / (2**0.5 + 1)),
        ("adam", "optax", {"beta1": 0.5, "beta2": 0.5, "eps_root": 5.0, "eps": 1.0}, 1 - 1 / 4),
        ("adam", "onnx", {"beta1": 0.5, "beta2": 0.5, "eps": 0.0}, 1 - 0.5 / 2**0.5),
        ("adam", "mlx", {"beta1": 0.5, "beta2": 0.5, "eps": 1.0}, 1 - 0.5 / (2**0.5 + 1)),
    ],
    ids=str,
)
def test_optimizers_against_numbers_worked_out_by_hand(kind, convention, options, expected):
    params, row = [np.array([1.0])], ref.OPTIMIZERS[kind]
    states = {name: [np.zeros(1)] for name in row.state_names(options)}
    for step, grad in enumerate([2.0, -1.0], start=ref.step_number(convention, 1)):
        how = {"convention": convention, "step": step, "lr": 0.5}
        ref.optimizer_step(kind, params, [np.array([grad])], states, **how, **options)
    # Adam's second gradient leaves m = 0 (0.5 * 1 - 0.5 * 1), so that only the first step moves p.
    np.testing.assert_allclose(params[0], expected, rtol=1e-13)


@pytest.mark.parametrize(("convention", "factor"), [("keras", 2 / 5), ("torch", 2 / (5 + 1e-6))])
def test_clipping_by_the_global_norm(convention, factor):
    params, grads = [np.zeros(1), np.zeros(1)], [np.array([3.0]), np.array([4.0])]
    how = {"convention": convention, "step": 1, "lr": 1.0, "max_norm": 2.0}
    ref.optimizer_step("sgd", params, grads, {}, **how)
    np.testing.assert_allclose(params, [[-3 * factor], [-4 * factor]], rtol=1e-15)


def test_skipping_is_all_or_nothing():
    params, grads = [np.zeros(1), np.zeros(1)], [np.ones(1), np.array([np.inf])]
    assert not ref.optimizer_step("sgd", params, grads, {}, step=1, lr=1.0, skip_nonfinite=True)
    assert params == [0, 0]


def test_the_average_starts_as_a_copy():
    params, ema = [np.zeros(1)], [np.full(1, np.nan)]
    for step in (1, 2):
        how = {"step": step, "lr": 1.0, "ema_momentum": 0.75}
        ref.optimizer_step("sgd", params, [np.full(1, 4.0)], {"ema": ema}, **how)
    assert ema[0] == 0.75 * -4 + 0.25 * -8


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_assert_near_accepts_the_rounding_and_no_more(dtype):
    exact = np.linspace(-3, 3, 61)
    rounded = exact.astype(dtype)
    ref.assert_near(rounded, exact, ulps=0)
    spoilt = rounded.copy()
    spoilt[50] = np.nextafter(rounded[50], dtype.type(9))
    with pytest.raises(AssertionError, match=r"1 of 61 off; at \(50,\)"):
        ref.assert_near(spoilt, rounded.astype(np.float64), ulps=0)


def test_assert_near_compares_the_exceptional_values():
    values = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    ref.assert_near(values, values.astype(np.float64), ulps=0)
    for wrong in ([0, np.inf, -np.inf, 0], [np.nan, -np.inf, -np.inf, 0], [np.nan, 1, 1, np.nan]):
        with pytest.raises(AssertionError, match="off"):
            ref.assert_near(np.array(wrong, np.float32), values.astype(np.float64), ulps=4)
    with pytest.raises(AssertionError, match="shape"):
        ref.assert_near(values, values[:3], ulps=4)


def test_ulp():
    assert [ref.ulp(t) for t in ref.DTYPES] == [2.0**-23, 2.0**-52, 2.0**-10, 2.0**-7]
    assert ref.statistics_dtype(ml_dtypes.bfloat16) == np.float32
