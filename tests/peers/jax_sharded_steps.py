"""A program on several devices, for `test_jax_sharded.py`: steps of sharded parameters."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fusednn.jax import optim

CHECKED = sys.argv[1] == "checked"
# What a type says of axes, and what it does not: steps are made of either.
KIND = AxisType.Explicit if CHECKED else AxisType.Auto
devices = jax.devices()
assert len(devices) == 4, devices
mesh = jax.sharding.Mesh(np.array(devices), ("d",), axis_types=(KIND,))
rng = np.random.default_rng(0)
SHARDED, WHOLE = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())


def tree(scale):
    shapes = {"kernel": (16, 6), "bias": (8,)}
    values = {k: jnp.asarray(rng.normal(0, scale, s), jnp.float32) for k, s in shapes.items()}
    return jax.device_put(values, SHARDED)


def start(transform):
    """The state of a transformation for `params`, each leaf where shard_map wants it."""
    state = jax.tree.map(
        lambda a: a if a.ndim else jax.device_put(a, WHOLE), transform.init(params)
    )
    return state, jax.tree.map(lambda a: P("d") if a.ndim else P(), state)


def places(values):
    return [s.data.unsafe_buffer_pointer() for a in values for s in a.addressable_shards]


def require(values, sharding):
    for a in jax.tree.leaves(values):
        assert a.sharding.is_equivalent_to(sharding if a.ndim else WHOLE, a.ndim), a.sharding


def close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def mapped(function, out_specs, specs):
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(P("d"), P("d"), specs),
        out_specs=out_specs,
        check_vma=CHECKED,
    )


def averages(state):
    return [
        array for name in ("mu", "nu") for array in jax.tree.leaves(optax.tree.get(state, name))
    ]


params, gradients = tree(1), [tree(3) for _ in range(3)]
LARGEST = 2.0  # of the norm: the gradients' is above it
own, peer = optim.adamw(0.1, weight_decay=0.02), optax.adamw(0.1, weight_decay=0.02)


def by_norm_of_all(params, grads, state):
    squares = sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads))
    norm = jnp.sqrt(jax.lax.psum(squares, "d"))
    return own.apply(params, grads, state, grad_scale=jnp.maximum(1, norm / LARGEST))


def by_norm_of_part(params, grads, state):
    return optim.adamw(0.1, weight_decay=0.02, max_norm=LARGEST).apply(params, grads, state)


def added(params, grads, state):
    updates, state = own.update(grads, state, params)
    return jax.tree.map(jnp.add, params, updates), state


def of_peer(transform):
    def step(params, grads, state):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


clipped = optax.chain(optax.clip_by_global_norm(LARGEST), peer)
# Optax keeps shardings by itself; the norm of a device's own part it only has inside a shard_map.
for ours, transform, theirs in (
    (own.apply, peer, of_peer(peer)),
    (added, peer, of_peer(peer)),
    (by_norm_of_all, clipped, of_peer(clipped)),
    (by_norm_of_part, clipped, None),
):
    state, specs = start(own)
    expected_state, their_specs = start(transform)
    if theirs is None:
        theirs = mapped(of_peer(transform), (P("d"), their_specs), their_specs)
    step = jax.jit(mapped(ours, (P("d"), specs), specs), donate_argnums=(0, 2))
    moved, expected = jax.tree.map(jnp.copy, params), params
    require((moved, state), SHARDED)
    for grads in gradients:
        held = jax.tree.leaves((moved, averages(state)))
        before = places(held)
        moved, state = step(moved, grads, state)
        if ours is not added:  # which makes a new array, the update
            assert places(jax.tree.leaves((moved, averages(state)))) == before
        expected, expected_state = jax.jit(theirs)(expected, grads, expected_state)
        require((moved, state, expected, averages(expected_state)), SHARDED)
        close(jax.tree.leaves(moved), jax.tree.leaves(expected))
        close(averages(state), averages(expected_state))
    assert int(state.count) == len(gradients)
    assert "all-gather" not in step.lower(moved, grads, state).compile().as_text()

# Bit for bit what one device makes of the whole.
state, specs = start(own)
step = jax.jit(mapped(own.apply, (P("d"), specs), specs))
together = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), (params, gradients[0], state))
for a, b in zip(
    jax.tree.leaves(step(params, gradients[0], state)),
    jax.tree.leaves(own.apply(*together)),
    strict=True,
):
    np.testing.assert_array_equal(a, b)

# Outside of a shard_map the results are whole on each device, and sharded again where asked for.
state, _ = start(own)
expected, _ = jax.jit(of_peer(peer))(params, gradients[0], start(peer)[0])
results = jax.jit(own.apply)(params, gradients[0], state)
require(results, WHOLE)
close(jax.tree.leaves(results[0]), jax.tree.leaves(expected))
asked = jax.tree.map(lambda a: SHARDED if a.ndim else WHOLE, results)


def constrained(*arguments):
    results = own.apply(*arguments)
    place = jax.sharding.reshard if CHECKED else jax.lax.with_sharding_constraint
    return place(results, asked)


for function in (jax.jit(own.apply, out_shardings=asked), jax.jit(constrained)):
    results = function(params, gradients[0], state)
    require(results, SHARDED)
    close(jax.tree.leaves(results[0]), jax.tree.leaves(expected))

# Devices that may disagree on whether a step was made are no one count.
skipping = optim.adamw(0.1, skip_nonfinite=True)
state, specs = start(skipping)
refused = ""
try:
    jax.jit(mapped(skipping.apply, (P("d"), specs), specs))(params, gradients[0], state)
except ValueError as error:
    refused = str(error)
assert ("count" in refused and "replicat" in refused) == CHECKED, refused
print("all agree")
