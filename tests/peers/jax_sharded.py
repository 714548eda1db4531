"""A program on several devices, for `test_jax_sharded.py`: BatchNorm under shard_map."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import fusednn.jax as fj

CHECKED = sys.argv[1] == "checked"
devices = jax.devices()
assert len(devices) == 4, devices
mesh = jax.sharding.Mesh(np.array(devices).reshape(2, 2), ("a", "b"))
rng = np.random.default_rng(0)
x, weight = (jnp.asarray(rng.normal(2, 3, (24, 5)), jnp.float32) for _ in range(2))
gamma, beta = (jnp.asarray(rng.normal(0, 1, 5), jnp.float32) for _ in range(2))
running = jnp.zeros(5), jnp.ones(5)
how = {"negative_slope": 0.1, "momentum": 0.3}


def alone(x, gamma, beta):
    y, *moved = fj.batch_norm(x, gamma, beta, *running, **how)
    return jnp.vdot(weight, y), (y, moved)


def across(axes):
    def one(x, gamma, beta):
        y, *moved = fj.batch_norm(x, gamma, beta, *running, axis_name=axes, **how)
        return y, moved

    sharded = jax.shard_map(
        one,
        mesh=mesh,
        in_specs=(P(axes), P(), P()),
        out_specs=(P(axes), P()),
        check_vma=CHECKED,
    )

    def loss(x, gamma, beta):
        y, moved = sharded(x, gamma, beta)
        return jnp.vdot(weight, y), (y, moved)

    return loss


expected = jax.value_and_grad(alone, (0, 1, 2), has_aux=True)(x, gamma, beta)
for axes in ("a", ("a", "b")):
    function = jax.jit(jax.value_and_grad(across(axes), (0, 1, 2), has_aux=True))
    placed = jax.device_put(x, NamedSharding(mesh, P(axes)))
    actual = function(placed, gamma, beta)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), actual, expected
    )
    assert "all-gather" not in function.lower(placed, gamma, beta).compile().as_text()


# Each device with the statistics of its own part; the gradients of the shared vectors are sums.
def own_parts(x, gamma, beta):
    y, _, _ = fj.batch_norm(x, gamma, beta, negative_slope=0.1)
    return y


parts = jax.shard_map(
    own_parts, mesh=mesh, in_specs=(P("a"), P(), P()), out_specs=P("a"), check_vma=CHECKED
)
actual = jax.grad(lambda *a: jnp.vdot(weight, parts(*a)), (0, 1, 2))(x, gamma, beta)
halves = jax.vmap(own_parts, (0, None, None))
expected = jax.grad(
    lambda x, *a: jnp.vdot(weight, halves(x.reshape(2, 12, 5), *a).reshape(24, 5)), (0, 1, 2)
)(x, gamma, beta)
for a, b in zip(actual, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
print("all agree")
