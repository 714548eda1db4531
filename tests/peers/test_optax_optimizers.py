"""The "optax" convention against optax: 200 steps with every option and with schedules."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn import ops

jax = pytest.importorskip("jax", reason="compares with optax")
optax = pytest.importorskip("optax", reason="compares with optax")

SIZES = ((1,), (7,), (3, 5, 7), (97,))
STEPS = 200
RATES = {
    "fixed": np.full(STEPS, 0.01),
    # Warm-up, then decay, with a jump: what a buffer that holds the rate would show.
    "changing": np.where(np.arange(STEPS) == 50, 0.1, 0.02 * np.sqrt(np.arange(STEPS) % 40 / 40)),
}
HYPERPARAMETERS = {"beta1": "b1", "beta2": "b2", "rho": "decay"}
# Our names of states, and optax's.
STATES = {
    "momentum_buffers": "trace",
    "sums": "sum_of_squares",
    "square_avgs": "nu",
    "grad_avgs": "mu",
    "exp_avgs": "mu",
    "exp_avg_sqs": "nu",
    "max_exp_avg_sqs": "nu_max",
    "exp_infs": "nu",
}
OURS_ALONE = ("grad_scale", "skip_nonfinite", "max_norm_each")


def transformation(kind, options, rate):
    """The chain that `options` describe; `rate` is a function of the number of updates made."""
    given = dict(options)
    decay, decoupled = given.pop("weight_decay", 0.0), given.pop("decoupled_weight_decay", None)
    before, after = [], []
    if "clip_value" in given:
        before.append(optax.clip(given.pop("clip_value")))
    if "max_norm" in given:
        before.append(optax.clip_by_global_norm(given.pop("max_norm")))
    if given.pop("maximize", False):
        before.append(optax.scale(-1.0))
    given.pop("ema_momentum", None)
    name = "amsgrad" if given.pop("amsgrad", False) else kind
    own = {HYPERPARAMETERS.get(key, key): value for key, value in given.items()}
    if kind == "adagrad":
        own["initial_accumulator_value"] = ref.OPTIMIZERS[kind].initial["sums"]
    if decay and decoupled is False:
        before.append(optax.add_decayed_weights(decay))
    elif decay and name == "adam":
        name, own["weight_decay"] = "adamw", decay
    elif decay:  # as adamw does
        after.append(optax.add_decayed_weights(lambda count: -rate(count) * decay))
    return optax.chain(*before, getattr(optax, name)(rate, **own), *after)


def cases():
    for kind, convention, options in ref.optimizer_cases():
        if convention == "optax" and not any(name in options for name in OURS_ALONE):
            yield kind, options
    yield "adam", {"weight_decay": 0.1, "maximize": True}
    yield "sgd", {"weight_decay": 0.1}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize(("kind", "options"), list(cases()), ids=ref.case_id)
def test_200_steps(make, kind, options, rates, dtype):
    params = [make.normal(s, dtype) for s in SIZES]
    scales = [np.power(10, make.uniform(s, np.float64, -1, 1)) for s in SIZES]
    states = ref.initial_states(kind, params, options)
    states = {name: [a.astype(dtype) for a in arrays] for name, arrays in states.items()}
    table = jax.numpy.asarray(RATES[rates], dtype)
    peer = transformation(kind, options, lambda count: table[count])
    theirs = [jax.numpy.asarray(p) for p in params]
    peer_state, average = peer.init(theirs), None

    @jax.jit
    def update(grads, state, params):
        updates, state = peer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for step, lr in enumerate(RATES[rates].astype(dtype).tolist(), start=1):
        grads = [(s * make.normal(s.shape, np.float64)).astype(dtype) for s in scales]
        theirs, peer_state = update(grads, peer_state, theirs)
        kept = options.get("ema_momentum", 0.0)
        average = theirs if average is None else optax.incremental_update(theirs, average, 1 - kept)
        how = {"convention": "optax", "step": step, "lr": lr}
        assert ref.call_step(ops, kind, params, grads, states, **how, **options)
    tolerance = 3e-5 if dtype == np.float32 else 1e-12
    pairs = {"params": (params, theirs), "ema": (states.pop("ema", average), average)}
    for name, arrays in states.items():
        pairs[name] = arrays, optax.tree.get(peer_state, STATES[name])
    for ours, peers in pairs.values():
        for a, b in zip(ours, peers, strict=True):
            b = np.asarray(b)
            assert b.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max()))


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
def test_defaults(make, kind):
    """With nothing given but the rate, and gradients near epsilon."""
    with jax.enable_x64(True):
        params = [make.normal((97,), np.float64)]
        states = ref.initial_states(kind, params, {})
        peer, theirs = getattr(optax, kind)(0.01), [jax.numpy.asarray(params[0])]
        peer_state = peer.init(theirs)
        for step in range(1, 11):
            grads = [make.normal((97,), np.float64, std=1e-6)]
            updates, peer_state = peer.update(grads, peer_state, theirs)
            theirs = optax.apply_updates(theirs, updates)
            how = {"step": step, "lr": 0.01, "convention": "optax"}
            ref.call_step(ops, kind, params, grads, states, **how)
        np.testing.assert_allclose(params[0], theirs[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("eps_in_sqrt", [True, False])
def test_centered_rmsprop_with_correction(make, eps_in_sqrt):
    """The variance of the first step is 0 but for rounding: none where numbers have few digits."""
    options = {"bias_correction": True, "centered": True, "eps": 0.1, "eps_in_sqrt": eps_in_sqrt}
    peers_options = {**options, "decay": 0.5}
    options["rho"] = 0.5
    with jax.enable_x64(True):
        params = [make.normal((97,), np.float64)]
        states = ref.initial_states("rmsprop", params, options)
        peer, theirs = optax.rmsprop(0.01, **peers_options), [jax.numpy.asarray(params[0])]
        peer_state = peer.init(theirs)
        for step in range(1, 21):
            grads = [make.normal((97,), np.float16).astype(np.float64)]
            updates, peer_state = peer.update(grads, peer_state, theirs)
            theirs = optax.apply_updates(theirs, updates)
            how = {"step": step, "lr": 0.01, "convention": "optax"}
            ref.call_step(ops, "rmsprop", params, grads, states, **how, **options)
        np.testing.assert_allclose(params[0], theirs[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_adagrad_without_an_initial_sum(eps, dtype):
    """Elements whose gradient has been zero so far, or whose square vanishes, stay."""
    grads = np.array([0.0, -0.0, 1.0, 1e-30 if dtype == np.float32 else 1e-200], dtype)
    params, sums = [np.ones(4, dtype)], [np.zeros(4, dtype)]
    peer = optax.adagrad(0.5, initial_accumulator_value=0.0, eps=eps)
    theirs = jax.numpy.ones(4, dtype)
    state = peer.init(theirs)
    for step in (1, 2, 3):
        updates, state = peer.update(grads, state)
        theirs = optax.apply_updates(theirs, updates)
        ops.adagrad_step(params, [grads], sums, step=step, lr=0.5, eps=eps, convention="optax")
        np.testing.assert_allclose(params[0], theirs, rtol=1e-6)
    assert (params[0] == 1).tolist() == [True, True, False, True]


@pytest.mark.parametrize("limit", [0.5, 1e3], ids=["clips", "does_not_clip"])
def test_clipping_divides_by_the_norm_itself(make, limit):
    with jax.enable_x64(True):
        grads = [make.normal(s, np.float64) for s in SIZES]
        params = [np.zeros(s) for s in SIZES]
        clip = optax.clip_by_global_norm(limit)
        theirs, _ = clip.update(grads, clip.init(grads))
        how = {"step": 1, "lr": 1.0, "convention": "optax", "max_norm": limit}
        ops.sgd_step(params, grads, None, **how)
        for ours, peers in zip(params, theirs, strict=True):
            np.testing.assert_allclose(-ours, peers, rtol=1e-14)
