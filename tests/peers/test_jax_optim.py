"""`fusednn.jax.optim` beside optax: trajectories, states, schedules, what takes transformations."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
jnp = jax.numpy
pytest.importorskip("fusednn.jax", exc_type=ImportError)

from fusednn.jax import optim  # noqa: E402  needs JAX

# What must be known when a program is compiled: all numbers of Adam but the learning rate.
NUMBERS = ("b1", "b2", "eps", "eps_root", "weight_decay")
SCHEDULE = optax.cosine_decay_schedule(0.1, 15)
# Ours, optax's.
PAIRS = {
    "sgd": (optim.sgd(0.1), optax.sgd(0.1)),
    "momentum": (optim.sgd(SCHEDULE, 0.9), optax.sgd(SCHEDULE, 0.9)),
    "nesterov": (optim.sgd(0.1, 0.9, True), optax.sgd(0.1, 0.9, True)),
    "adagrad": (optim.adagrad(0.1, 0.5, 1e-3), optax.adagrad(0.1, 0.5, 1e-3)),
    "rmsprop": (optim.rmsprop(SCHEDULE, 0.8), optax.rmsprop(SCHEDULE, 0.8)),
    "rmsprop_all": (
        optim.rmsprop(0.1, initial_scale=1.0, centered=True, momentum=0.5),
        optax.rmsprop(0.1, initial_scale=1.0, centered=True, momentum=0.5),
    ),
    "rmsprop_nesterov": (
        optim.rmsprop(SCHEDULE, momentum=0.5, nesterov=True, eps_in_sqrt=False),
        optax.rmsprop(SCHEDULE, momentum=0.5, nesterov=True, eps_in_sqrt=False),
    ),
    "rmsprop_corrected": (
        optim.rmsprop(0.1, 0.5, 0.1, nesterov=True, bias_correction=True),
        optax.rmsprop(0.1, 0.5, 0.1, nesterov=True, bias_correction=True),
    ),
    "nadam": (
        optim.adam(SCHEDULE, eps_root=1e-4, nesterov=True),
        optax.adam(SCHEDULE, eps_root=1e-4, nesterov=True),
    ),
    "nadamw": (
        optim.adamw(0.1, weight_decay=0.1, nesterov=True),
        optax.adamw(0.1, weight_decay=0.1, nesterov=True),
    ),
    "adam": (optim.adam(SCHEDULE, 0.8, 0.95, 1e-6), optax.adam(SCHEDULE, 0.8, 0.95, 1e-6)),
    "amsgrad": (optim.adam(0.1, amsgrad=True), optax.amsgrad(0.1)),
    "adamw": (optim.adamw(SCHEDULE, weight_decay=0.1), optax.adamw(SCHEDULE, weight_decay=0.1)),
    "masked": (
        optim.adamw(0.1, weight_decay=0.1, mask={"kernel": True, "rest": False}),
        optax.adamw(0.1, weight_decay=0.1, mask={"kernel": True, "rest": False}),
    ),
    "mask_function": (
        optim.adamw(0.1, weight_decay=0.1, mask=lambda t: jax.tree.map(lambda a: a.ndim > 1, t)),
        optax.adamw(0.1, weight_decay=0.1, mask=lambda t: jax.tree.map(lambda a: a.ndim > 1, t)),
    ),
    "clipped": (
        optim.adam(0.1, clip_value=0.5),
        optax.chain(optax.clip(0.5), optax.adam(0.1)),
    ),
    "norm": (
        optim.sgd(0.1, 0.9, max_norm=1.0),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)),
    ),
}


def parameters(make):
    arrays = [jnp.asarray(make.normal(s)) for s in ((5, 3), (7,), ())]
    return {"kernel": arrays[0], "rest": [arrays[1], None, (arrays[2],)]}


def gradients(make, params):
    return jax.tree.map(lambda p: jnp.asarray(make.normal(p.shape)), params)


def close(actual, expected, tolerance=2e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


@pytest.mark.parametrize("name", PAIRS)
def test_trajectories(make, name):
    own, peer = PAIRS[name]
    update, step = jax.jit(own.update), jax.jit(own.apply)
    added = fused = theirs = parameters(make)
    added_state, fused_state, peer_state = own.init(added), own.init(fused), peer.init(theirs)
    for _ in range(20):
        grads = gradients(make, theirs)
        updates, added_state = update(grads, added_state, added)
        added = optax.apply_updates(added, updates)
        fused, fused_state = step(fused, grads, fused_state)
        updates, peer_state = peer.update(grads, peer_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    close(added, theirs)
    close(fused, theirs)
    close(fused_state, added_state)
    assert int(fused_state.count) == 20
    for field in set(fused_state._fields) - {"count"}:
        kept = getattr(fused_state, field)
        if kept is not None and name != "amsgrad":
            close(kept, optax.tree.get(peer_state, field))


def test_optax_state_goes_on_here(make):
    """A run that changes optimizers in the middle is a run without that."""
    params = parameters(make)
    grads = [gradients(make, params) for _ in range(6)]
    peer, own = optax.adam(0.1), optim.adam(0.1)
    theirs, peer_state = params, peer.init(params)
    for i, grad in enumerate(grads):
        if i == 3:
            state = own.init(theirs)._replace(
                **{field: optax.tree.get(peer_state, field) for field in ("count", "mu", "nu")}
            )
            ours = theirs
        if i >= 3:
            ours, state = own.apply(ours, grad, state)
        updates, peer_state = peer.update(grad, peer_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    close(ours, theirs)
    close(state.nu, optax.tree.get(peer_state, "nu"))


def test_apply_is_in_place_where_donated(make):
    own = optim.adamw(0.1, max_norm=1.0)
    # An array may lie in NumPy's memory, which is not JAX' to give away: results of JAX do not.
    params = {"kernel": 1 * jnp.asarray(make.normal((300, 100))), "bias": jnp.zeros(100)}
    grads, state = gradients(make, params), own.init(params)
    step = jax.jit(own.apply, donate_argnums=(0, 2))
    for _ in range(3):
        arrays = jax.tree.leaves((params, state.mu, state.nu))
        before = [a.unsafe_buffer_pointer() for a in arrays]
        params, state = step(params, grads, state)
        after = jax.tree.leaves((params, state.mu, state.nu))
        assert [a.unsafe_buffer_pointer() for a in after] == before
    assert step._cache_size() == 1


def known(adam):
    return [name for name in NUMBERS if name in inspect.signature(adam).parameters]


def test_with_optax_wrappers(make):
    params = parameters(make)
    grads = gradients(make, params)
    wrapped = {
        "chain": lambda adam: optax.chain(optax.clip(0.5), adam(0.1), optax.scale(0.5)),
        "injected": lambda adam: optax.inject_hyperparams(adam, known(adam))(learning_rate=0.1),
        "multi_steps": lambda adam: optax.MultiSteps(adam(0.1), 2),
        "finite": lambda adam: optax.apply_if_finite(adam(0.1), 3),
        "masked": lambda adam: optax.masked(adam(0.1), {"kernel": True, "rest": False}),
    }
    for wrap in wrapped.values():
        own, peer = wrap(optim.adam), wrap(optax.adam)
        own_state, peer_state = own.init(params), peer.init(params)
        for _ in range(4):
            ours, own_state = own.update(grads, own_state, params)
            theirs, peer_state = peer.update(grads, peer_state, params)
            close(ours, theirs)


def test_a_traced_learning_rate(make):
    params = parameters(make)
    grads = gradients(make, params)

    @jax.jit
    def step(params, rate):
        own = optim.sgd(rate)
        return own.apply(params, grads, own.init(params))[0]

    for rate in (0.0, 0.5):
        close(step(params, rate), jax.tree.map(lambda p, g, r=rate: p - r * g, params, grads))
    assert step._cache_size() == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(make, dtype):
    """Gradients from 0.1 on: smaller squares vanish in float16."""
    params = {"w": jnp.asarray(make.normal((97,)), dtype)}
    grads = {"w": jnp.asarray(make.uniform((97,), low=0.1), dtype)}
    own, peer = optim.adam(0.1, mu_dtype=dtype), optax.adam(0.1, mu_dtype=dtype)
    state, peer_state = own.init(params), peer.init(params)
    assert state.mu["w"].dtype == state.nu["w"].dtype == dtype
    moved, state = own.apply(params, grads, state)
    updates, _ = peer.update(grads, peer_state, params)
    assert moved["w"].dtype == dtype
    close(jnp.float32(moved["w"]), jnp.float32(optax.apply_updates(params, updates)["w"]), 2e-2)


@pytest.mark.parametrize(
    ("dtype", "value", "rate", "decay", "tolerance"),
    [
        ("float32", 100.0, 1e-7, 1e-4, 1e-5),
        ("float32", 1e6, 1e-4, 1e-6, 1e-5),
        ("bfloat16", 1.0, 1e-3, 1e-4, 2**-7),
        ("bfloat16", 3.0, 1e-5, 0.5, 2**-7),
        ("float16", 64.0, 1e-3, 0.01, 2**-10),
    ],
)
def test_updates_that_are_small_beside_the_parameters(dtype, value, rate, decay, tolerance):
    """A difference of parameters would be 0, or a power of two."""
    params, grads = {"w": jnp.full(97, value, dtype)}, {"w": jnp.full(97, 1.0, dtype)}
    own, peer = optim.adamw(rate, weight_decay=decay), optax.adamw(rate, weight_decay=decay)
    updates, _ = jax.jit(own.update)(grads, own.init(params), params)
    expected, _ = peer.update(grads, peer.init(params), params)
    assert updates["w"].dtype == dtype
    np.testing.assert_allclose(np.float32(updates["w"]), np.float32(expected["w"]), rtol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "value", "rate", "scale"),
    [("float32", 100.0, 1e-7, 1000.0), ("bfloat16", 1.0, 1e-4, 100.0)],
)
def test_a_chain_keeps_what_is_scaled_after_the_step(dtype, value, rate, scale):
    params = {"w": jnp.full(7, value, dtype)}
    grads = {"w": jnp.full(7, 1e-3, dtype)}
    moved = []
    for adamw in (optim.adamw, optax.adamw):
        chain = optax.chain(adamw(rate, weight_decay=1e-2), optax.scale(scale))
        update = jax.jit(chain.update)
        ours, state = params, chain.init(params)
        for _ in range(20):
            updates, state = update(grads, state, ours)
            ours = optax.apply_updates(ours, updates)
        moved.append(np.float32(value) - np.float32(ours["w"]))
    assert (moved[1] > 0).all()
    np.testing.assert_allclose(moved[0], moved[1], rtol=2e-2)


def test_decay_of_float64_parameters():
    with jax.enable_x64(True):
        params = {"w": jnp.full(7, 3.0)}
        own, peer = (optimizers.adamw(1e-9, weight_decay=0.5) for optimizers in (optim, optax))
        updates, _ = own.update(params, own.init(params), params)
        expected, _ = peer.update(params, peer.init(params), params)
        assert updates["w"].dtype == "float64"
        np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-12)


def test_an_update_that_is_skipped_decays_nothing():
    own = optim.adam(0.1, skip_nonfinite=True, weight_decay=0.1)
    params = {"w": jnp.ones(3)}
    state = own.init(params)
    updates, kept = jax.jit(own.update)({"w": jnp.array([1.0, jnp.inf, 1.0])}, state, params)
    close((updates, kept), ({"w": jnp.zeros(3)}, state), 0)
    updates, _ = own.update(params, state, params)
    close(updates["w"], jnp.full(3, -0.11))


def test_a_step_that_is_skipped_counts_nothing(make):
    own = optim.adam(0.1, skip_nonfinite=True)
    params = parameters(make)
    state = own.init(params)
    grads = gradients(make, params)
    bad = {**grads, "kernel": grads["kernel"].at[0, 0].set(jnp.nan)}
    moved, kept = jax.jit(own.apply)(params, bad, state)
    close((moved, kept), (params, state), 0)
    _, kept = own.apply(params, grads, kept)
    assert int(kept.count) == 1


def test_gradient_scale(make):
    own, params = optim.sgd(0.1), parameters(make)
    grads = gradients(make, params)
    scaled = jax.tree.map(lambda g: 8 * g, grads)
    step = jax.jit(lambda p, g, s, scale: own.apply(p, g, s, grad_scale=scale))
    close(step(params, scaled, own.init(params), 8.0), own.apply(params, grads, own.init(params)))


def test_no_parameters():
    own = optim.adam(0.1)
    params, state = own.apply({}, {}, own.init({}))
    assert params == {}
    assert int(state.count) == 1


def test_refusals(make):
    params = parameters(make)
    own = optim.adamw(0.1)
    state, grads = own.init(params), gradients(make, params)
    with pytest.raises(ValueError, match="`params` must be given where `weight_decay` is not 0"):
        own.update(grads, state)
    with pytest.raises(ValueError, match="`grads` must have the structure of `params`"):
        own.apply(params, {"kernel": grads["kernel"]}, state)
    with pytest.raises(TypeError, match=r"`params\['n'\]` must be an array of float32, .*=int32"):
        own.init({"n": jnp.arange(3)})
    with pytest.raises(TypeError, match=r"`params\['n'\]` must be an array .* Received: float"):
        own.init({"n": 1.0})
    with pytest.raises(ValueError, match="`mask` must be None where `max_norm` is given"):
        optim.adamw(0.1, mask=True, max_norm=1.0)
    with pytest.raises(ValueError, match=r"`learning_rate` must not be negative\. Received: -1"):
        optim.sgd(-1)
    with pytest.raises(ValueError, match=r"`beta1` must be in \[0, 1\)\. Received: beta1=1"):
        optim.adam(0.1, b1=1.0)
    with pytest.raises(ValueError, match="`clip_value`"):
        optim.sgd(0.1, clip_value=-1.0)
    with pytest.raises(ValueError, match=r"`weight_decay` must be at least 0\. Received: .*=-1"):
        optim.sgd(0.1, weight_decay=-1.0)
    with pytest.raises(TypeError, match="`beta1` must be a number, which is known when"):
        jax.jit(lambda b1: optim.adam(0.1, b1).init(params))(0.9)
    with pytest.raises(ValueError, match=r"`nesterov` must be False where `amsgrad` is true"):
        optim.adam(0.1, nesterov=True, amsgrad=True)
