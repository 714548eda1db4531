"""`fusednn.jax.leaky_relu` beside `jax.nn.leaky_relu`, under JAX's transformations."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn import ops

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fusednn.jax", exc_type=ImportError)

SHAPES = [(), (0,), (1,), (7,), (97, 3), (2, 0, 5), (1 << 18,)]
DTYPES = ["float32", "float64", "float16", "bfloat16"]


@pytest.fixture(params=DTYPES)
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(make, shape, dtype):
    x, grad = make.normal(shape, dtype), make.normal(shape, dtype)
    y, pull = jax.vjp(lambda a: fj.leaky_relu(a, 0.2), jnp.asarray(x))
    (grad_x,) = pull(jnp.asarray(grad))
    assert y.dtype == grad_x.dtype == dtype
    assert y.shape == grad_x.shape == shape
    np.testing.assert_array_equal(y, ops.leaky_relu(x, 0.2))
    np.testing.assert_array_equal(grad_x, ops.leaky_relu_backward(grad, x, 0.2))
    loose = 1e-2 if dtype in ("float16", "bfloat16") else 1e-6
    expected = ref.leaky_relu(x.astype(np.float64), 0.2)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=loose)


def test_under_transformations(make):
    x = jnp.asarray(make.normal((5, 3, 7)))
    expected = jax.nn.leaky_relu(x, 0.01)
    for transformed in (jax.jit, jax.vmap, lambda f: jax.vmap(jax.vmap(f, -1, -1)), jax.checkpoint):
        np.testing.assert_array_equal(transformed(fj.leaky_relu)(x), expected)
    gradient = jax.jit(jax.vmap(jax.grad(lambda row: fj.leaky_relu(row, 0.3).sum())))(x)
    np.testing.assert_allclose(gradient, np.where(x > 0, 1, np.float32(0.3)))


def test_no_copy_of_a_result_stays_on_the_host(make):
    """The value of a program's constants is not needed to run it: nothing is called back."""
    text = jax.jit(fj.leaky_relu).lower(jnp.ones(3)).as_text()
    assert "fusednn_leaky_relu" in text
    assert "callback" not in text


def test_refusals():
    x = jnp.ones(3)
    with pytest.raises(TypeError, match=r"`x` must be float32, .* Received: dtype=int32"):
        fj.leaky_relu(jnp.arange(3))
    with pytest.raises(ValueError, match=r"`negative_slope` must be finite\. Received: .*=inf"):
        fj.leaky_relu(x, np.inf)
    with pytest.raises(TypeError, match="`negative_slope` must be a number, which is known when"):
        jax.jit(fj.leaky_relu)(x, 0.1)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(fj.leaky_relu, (x,), (x,))
    with pytest.raises(ValueError, match=r"fusednn_leaky_relu_backward.* cannot be differentiated"):
        jax.grad(jax.grad(lambda a: fj.leaky_relu(a * a)))(2.0)
