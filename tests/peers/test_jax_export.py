"""Programs with the kernels in them, exported, saved and loaded; with sizes that are symbols."""

from __future__ import annotations

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fusednn.jax", exc_type=ImportError)

import jax.export  # noqa: E402  no attribute of jax before


def through_a_file(function, *arguments, order=0):
    """Return `function` as it is after a way through bytes."""
    program = jax.export.export(jax.jit(function), disabled_checks=fj.export_checks())(*arguments)
    return jax.export.deserialize(program.serialize(vjp_order=order))


def symbols(sizes):
    return jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), jnp.float32)


def norm(x):
    return fj.batch_norm(x, 2 * jnp.ones(5), None, negative_slope=0.1, channel_axis=1)


def inference(x):
    return fj.batch_norm_inference(x, None, None, jnp.zeros(5), jnp.ones(5), channel_axis=1)


@pytest.mark.parametrize("function", [norm, inference, fj.leaky_relu])
def test_any_batch_and_image(make, function):
    program = through_a_file(function, symbols("batch, 5, n, n"))
    for shape in ((1, 5, 1, 1), (7, 5, 3, 3), (97, 5, 2, 2)):
        x = jnp.asarray(make.normal(shape))
        jax.tree.map(np.testing.assert_array_equal, program.call(x), jax.jit(function)(x))


def test_any_number_of_channels(make):
    program = through_a_file(lambda x: fj.batch_norm(x)[0], symbols("n, c"))
    x = jnp.asarray(make.normal((7, 3)))
    np.testing.assert_array_equal(program.call(x), fj.batch_norm(x)[0])


def test_gradients_are_exported_with_their_function(make):
    program = through_a_file(lambda x: norm(x)[0], symbols("n, 5"), order=1)
    x, weights = jnp.asarray(make.normal((7, 5))), jnp.asarray(make.normal((7, 5)))
    grads = [
        jax.grad(lambda x, f=f: (f(x) * weights).sum())(x)
        for f in (program.call, lambda x: norm(x)[0])
    ]
    np.testing.assert_array_equal(*grads)


def test_a_training_step(make):
    adam = fj.optim.adamw(0.1)
    params = {"w": jnp.asarray(make.normal((7, 3)))}
    state = adam.init(params)
    program = through_a_file(lambda p: adam.apply(p, p, adam.init(p))[0], params)
    np.testing.assert_array_equal(
        program.call(params)["w"], adam.apply(params, params, state)[0]["w"]
    )


def test_what_cannot_be_exported():
    with pytest.raises(ValueError, match="custom calls"):
        jax.export.export(jax.jit(fj.leaky_relu))(jnp.ones(3))
    across = jax.vmap(lambda x: fj.batch_norm(x, axis_name="parts")[0], axis_name="parts")
    with pytest.raises(ValueError, match=r"`x` must have sizes that are known .*`axis_name`"):
        through_a_file(across, symbols("2, n, 5"))


def test_one_element_is_refused_when_it_comes():
    """As its size is a symbol, it is not known before."""
    function = lambda x: fj.batch_norm(x, unbiased_running_var=True)[0]  # noqa: E731
    program = through_a_file(function, symbols("n, 5"))
    assert program.call(jnp.ones((2, 5))).shape == (2, 5)
    with pytest.raises(
        Exception, match="`unbiased_running_var` must be false where a channel has one"
    ):
        jax.block_until_ready(program.call(jnp.ones((1, 5))))
