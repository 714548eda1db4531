"""`fusednn.jax.batch_norm`: the bits of `fusednn.ops`, the gradients of JAX's own formula."""

from __future__ import annotations

import numpy as np
import pytest

from batch_norm_problem import LAYOUTS, Problem
from fusednn import ops

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fusednn.jax", exc_type=ImportError)

SHAPES = [(4, 3, 49), (1, 1, 2), (97, 7, 1), (0, 3, 1), (3, 0, 7), (2, 64, 1024)]
DTYPES = ["float32", "float64", "float16", "bfloat16"]


@pytest.fixture(params=DTYPES)
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def formula(x, gamma, beta, eps=1e-5, slope=None, axis=-1):
    """The same in JAX's functions."""
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    mean = x.mean(others, keepdims=True)
    var = jnp.square(x - mean).mean(others, keepdims=True)
    shape = mean.shape
    z = (x - mean) / jnp.sqrt(var + eps) * gamma.reshape(shape) + beta.reshape(shape)
    return z if slope is None else jnp.where(z > 0, z, slope * z)


def same(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(actual), expected)


def bits_cases():
    yield from ((shape, layout, "float32", 0.2) for shape in SHAPES for layout in LAYOUTS)
    yield from ((SHAPES[0], layout, dtype, None) for layout in LAYOUTS for dtype in DTYPES)
    yield SHAPES[0], "NHWC", "bfloat16", 0.0


@pytest.mark.parametrize(
    ("shape", "layout", "dtype", "slope"), list(bits_cases()), indirect=["dtype"], ids=str
)
def test_bits_of_ops(make, shape, layout, slope, dtype):
    problem = Problem(make, shape, dtype, layout, slope)
    x, gamma, beta = problem.x, problem.gamma, problem.beta
    running = make.normal(gamma.shape, gamma.dtype), make.uniform(gamma.shape, gamma.dtype)
    expected = [v.copy() for v in running]
    how = {"negative_slope": slope, "channel_axis": problem.axis}
    y, mean, inv_std = ops.batch_norm_forward(
        *(x, gamma, beta),
        **how,
        running_mean=expected[0],
        running_var=expected[1],
        momentum=0.3,
        unbiased_running_var=False,
    )

    def own(x, gamma, beta):
        y, *moved = fj.batch_norm(x, gamma, beta, *running, momentum=0.3, **how)
        return y, moved

    (y_own, pull, moved) = jax.vjp(jax.jit(own), x, gamma, beta, has_aux=True)
    same(y_own, y)
    for actual, vector in zip(moved, expected, strict=True):
        same(actual, vector)
    grads = ops.batch_norm_backward(problem.grad, x, gamma, beta, mean, inv_std, **how)
    for actual, grad in zip(pull(jnp.asarray(problem.grad)), grads, strict=True):
        same(actual, grad)


@pytest.mark.parametrize("slope", [None, 0.2])
def test_inference_has_the_bits_of_ops(make, slope, dtype):
    layout = "NC" if slope is None else "NCHW"
    problem = Problem(make, (5, 3, 14), dtype, layout, slope)
    x, gamma, beta = problem.x, problem.gamma, problem.beta
    statistics = make.normal(gamma.shape, gamma.dtype), make.uniform(gamma.shape, gamma.dtype)
    how = {"negative_slope": slope, "channel_axis": problem.axis, "eps": 1e-3}
    y, pull = jax.vjp(lambda *a: fj.batch_norm_inference(*a, *statistics, **how), x, gamma, beta)
    same(y, ops.batch_norm_inference(x, gamma, beta, *statistics, **how))
    grads = ops.batch_norm_inference_backward(problem.grad, x, gamma, beta, *statistics, **how)
    for actual, grad in zip(pull(jnp.asarray(problem.grad)), grads, strict=True):
        same(actual, grad)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_of_the_formula(make, axis):
    with jax.enable_x64(True):
        x, weight = (jnp.asarray(make.normal((6, 4, 5), np.float64)) for _ in range(2))
        channels = x.shape[axis]
        gamma, beta = (jnp.asarray(make.normal((channels,), np.float64)) for _ in range(2))

        def loss(function):
            return jax.grad(lambda *a: jnp.vdot(weight, function(*a)), (0, 1, 2))(x, gamma, beta)

        own = loss(lambda *a: fj.batch_norm(*a, negative_slope=0.3, channel_axis=axis)[0])
        peers = loss(lambda *a: formula(*a, slope=0.3, axis=axis))
        for actual, expected in zip(own, peers, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("unbiased", [False, True])
def test_without_running_statistics_those_of_the_batch_come_back(make, unbiased):
    x = make.normal((31, 4), mean=3.0)
    y, mean, var = fj.batch_norm(x, unbiased_running_var=unbiased)
    same(y, ops.batch_norm_forward(x, None, None)[0])
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, x.var(0, ddof=int(unbiased)), rtol=1e-5)


@pytest.mark.parametrize("given", [(), ("gamma",), ("beta",), ("gamma", "beta")])
def test_absent_scale_and_shift(make, given):
    x, vectors = make.normal((9, 5)), {name: make.normal((5,)) for name in given}

    def both(function, *names):
        return jax.value_and_grad(lambda x, v: jnp.sum(function(x, v) ** 2), (0, 1))(x, vectors)

    ones, zeros = jnp.ones(5), jnp.zeros(5)
    value, grads = both(lambda x, v: fj.batch_norm(x, v.get("gamma"), v.get("beta"))[0])
    expected, peers = both(lambda x, v: formula(x, v.get("gamma", ones), v.get("beta", zeros)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), grads, peers)
    statistics = jnp.zeros(5), jnp.ones(5)
    y = fj.batch_norm_inference(x, vectors.get("gamma"), vectors.get("beta"), *statistics, eps=0)
    np.testing.assert_allclose(y, x * vectors.get("gamma", 1) + vectors.get("beta", 0), rtol=1e-6)


def test_statistics_are_updated_in_place_where_they_are_donated(make):
    x = jnp.asarray(make.normal((64, 32)))
    step = jax.jit(lambda x, m, v: fj.batch_norm(x, None, None, m, v), donate_argnums=(1, 2))
    running = jnp.zeros(32), jnp.ones(32)
    before = [v.unsafe_buffer_pointer() for v in running]
    _, *moved = step(x, *running)
    assert [v.unsafe_buffer_pointer() for v in moved] == before
    assert all(v.is_deleted() for v in running)
    kept = jnp.zeros(32), jnp.ones(32)
    fj.batch_norm(x, None, None, *kept)
    assert float(kept[0][0]) == 0
    assert float(kept[1][0]) == 1


def test_vmap_has_statistics_for_each_member(make):
    x, gamma = jnp.asarray(make.normal((3, 2, 8, 5))), jnp.asarray(make.normal((2, 5)))
    weight = jnp.asarray(make.normal(x.shape))

    def loss(x, gamma, weight):
        y, mean, var = fj.batch_norm(x, gamma, None, negative_slope=0.1)
        return jnp.vdot(weight, y), (mean, var)

    batched = jax.value_and_grad(loss, (0, 1), has_aux=True)
    batched = jax.jit(jax.vmap(jax.vmap(batched, (0, 0, 0)), (0, None, 0)))
    (_, statistics), (grad_x, grad_gamma) = batched(x, gamma, weight)
    assert statistics[0].shape == (3, 2, 5)
    for i in np.ndindex(3, 2):
        (_, one), (one_x, one_gamma) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            x[i], gamma[i[1]], weight[i]
        )
        for actual, expected in [
            *zip((s[i] for s in statistics), one, strict=True),
            *((grad_x[i], one_x), (grad_gamma[i], one_gamma)),
        ]:
            np.testing.assert_array_equal(actual, expected)
    assert "while" not in batched.lower(x, gamma, weight).as_text()  # one call, no loop


@pytest.mark.parametrize("mapped", [(0, None, None), (None, 0, None), (0, 0, 0)], ids=str)
def test_vmap_of_inference(make, mapped):
    """Over the input, over the models, over both: the bits of each alone, in one call."""
    sizes = ((8, 5), (5,), (5,))
    x, gamma, var = (
        jnp.asarray(abs(make.normal(size if axis is None else (3, *size))))
        for size, axis in zip(sizes, mapped, strict=True)
    )

    def loss(x, gamma, var):
        y = fj.batch_norm_inference(x, gamma, None, jnp.ones(5), var, negative_slope=0.1)
        return jnp.square(y).sum(), y

    one = jax.value_and_grad(loss, (0, 1), has_aux=True)
    batched = jax.jit(jax.vmap(one, mapped))
    together = batched(x, gamma, var)
    for i in range(3):
        alone = one(
            *(a if m is None else a[i] for a, m in zip((x, gamma, var), mapped, strict=True))
        )
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), together[1], alone[1]
        )
        np.testing.assert_array_equal(together[0][1][i], alone[0][1])
    assert "while" not in batched.lower(x, gamma, var).as_text()


@pytest.mark.parametrize("unbiased", [False, True])
def test_statistics_across_an_axis(make, unbiased):
    """Of all members of a vmap together, as of one large batch."""
    parts, gamma, beta = make.normal((4, 6, 5), mean=2.0), make.normal((5,)), make.normal((5,))
    whole, weight = parts.reshape(24, 5), make.normal((24, 5))
    running = jnp.zeros(5), jnp.ones(5)
    how = {"unbiased_running_var": unbiased, "negative_slope": 0.1}

    def across(x, gamma, beta):
        one = lambda x: fj.batch_norm(x, gamma, beta, *running, axis_name="parts", **how)  # noqa: E731
        y, *moved = jax.vmap(one, axis_name="parts")(x)
        return jnp.vdot(weight, y.reshape(24, 5)), (y.reshape(24, 5), [m[0] for m in moved])

    def alone(x, gamma, beta):
        y, *moved = fj.batch_norm(x.reshape(24, 5), gamma, beta, *running, **how)
        return jnp.vdot(weight, y), (y, moved)

    (_, actual), grads = jax.value_and_grad(across, (0, 1, 2), has_aux=True)(parts, gamma, beta)
    (_, expected), peers = jax.value_and_grad(alone, (0, 1, 2), has_aux=True)(parts, gamma, beta)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        (actual, grads),
        (expected, peers),
    )
    assert whole.shape == actual[0].shape


def test_low_precision_vectors_are_converted_and_come_back(make):
    x = make.normal((16, 3))
    running = jnp.zeros(3, jnp.bfloat16), jnp.ones(3, jnp.bfloat16)
    gamma = jnp.asarray([1.5, -1, 2], jnp.bfloat16)
    _, mean, var = fj.batch_norm(x, gamma, None, *running)
    assert mean.dtype == var.dtype == jnp.bfloat16
    assert jax.grad(lambda g: fj.batch_norm(x, g)[0][0, 0])(gamma).dtype == jnp.bfloat16


BAD = {
    "no_channels": (ValueError, r"`x` must have an axis of channels\. Received: shape=\(\)", [2.0]),
    "integers": (TypeError, "`x` must be float32, .* Received: dtype=int32", [[[1, 2]]]),
    "gamma": (ValueError, r"`gamma` must have .* shape \(3,\)\. Received: shape=\(2,\)", [0, 2]),
    "beta": (ValueError, r"`beta` must have .* Received: shape=\(3, 1\)", [0, None, (3, 1)]),
    "pair": (ValueError, "must be given together. Received: only `running_mean`", [0, 3, 3, 3]),
}


@pytest.mark.parametrize("case", BAD)
def test_arguments_are_refused(case):
    error, message, (x, *vectors) = BAD[case]
    x = jnp.ones((4, 3)) if x == 0 else jnp.asarray(x)
    arrays = [v if v is None else jnp.ones(v) for v in vectors]
    with pytest.raises(error, match=message):
        fj.batch_norm(x, *arrays)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"eps": -1.0}, r"`eps` must be at least 0\. Received: eps=-1\.0"),
        ({"momentum": 1.5}, r"`momentum` must be in \[0, 1\]\. Received: momentum=1\.5"),
        ({"negative_slope": np.nan}, "`negative_slope` must be finite. Received: .*=nan"),
        ({"channel_axis": 2}, r"`channel_axis` must be in \[-2, 1\] for 2 axes\. Received: .*=2"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        fj.batch_norm(jnp.ones((4, 3)), **option)


def test_other_refusals():
    with pytest.raises(ValueError, match="more than one element per channel where `unbiased"):
        fj.batch_norm(jnp.ones((1, 3)), unbiased_running_var=True)
    with pytest.raises(TypeError, match=r"`running_var` must be an array\. Received: None"):
        fj.batch_norm_inference(jnp.ones((1, 3)), None, None, jnp.ones(3), None)
    with jax.enable_x64(True), pytest.raises(TypeError, match=r"`gamma` must be float32 where"):
        fj.batch_norm(jnp.ones((2, 3), jnp.float32), jnp.ones(3, jnp.float64))
    with pytest.raises(Exception, match="`running_var` must not be negative"):
        fj.batch_norm_inference(jnp.ones((1, 3)), None, None, jnp.ones(3), -jnp.ones(3))
    with pytest.raises(ValueError, match=r"fusednn_batch_norm_.* cannot be differentiated"):
        jax.grad(lambda x: jax.grad(lambda x: fj.batch_norm(x)[0][0, 0])(x)[0, 0])(jnp.ones((3, 2)))


def test_an_axis_that_is_no_integer_is_named():
    with pytest.raises(TypeError, match=r"`channel_axis` must be an integer\. Received: .*=1\.5"):
        fj.batch_norm(jnp.ones((3, 2)), channel_axis=1.5)
