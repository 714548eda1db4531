"""The "mlx" convention against `mlx.optimizers` on the CPU: 200 steps with every option.

`pip install "mlx[cpu]"` brings it to Linux with glibc 2.35 or later.
"""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn import ops

mx = pytest.importorskip("mlx.core", reason="compares with MLX: mlx[cpu]")
peers = pytest.importorskip("mlx.optimizers", reason="compares with MLX: mlx[cpu]")

SIZES = ((1,), (7,), (3, 5, 7), (97,))
NAMES = {
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamax": "Adamax",
}
# Our names of states, and MLX's; its Adagrad starts from zeros.
STATES = {
    "momentum_buffers": "v",
    "sums": "v",
    "square_avgs": "v",
    "exp_avgs": "m",
    "exp_avg_sqs": "v",
    "exp_infs": "v",
}
OURS_ALONE = ("grad_scale", "skip_nonfinite", "ema_momentum", "maximize", "max_norm_each")


@pytest.fixture(autouse=True)
def on_the_cpu():
    with mx.stream(mx.cpu):
        yield


def optimizer(kind, options):
    """The optimizer that `options` describe, and whether it decays by itself."""
    given = {n: v for n, v in options.items() if n not in ("max_norm", "clip_value")}
    decoupled = given.pop("decoupled_weight_decay", kind == "adam")
    name = NAMES[kind]
    if kind in ("adam", "adamax"):
        given["betas"] = [given.pop("beta1", 0.9), given.pop("beta2", 0.999)]
    if kind == "adam":
        name = "AdamW" if "weight_decay" in given and decoupled else name
    if "rho" in given:
        given["alpha"] = given.pop("rho")
    return getattr(peers, name)(0.01, **given)


def cases():
    for kind, convention, options in ref.optimizer_cases():
        if convention != "mlx" or any(name in options for name in OURS_ALONE):
            continue
        decoupled = options.get("decoupled_weight_decay", kind == "adam")
        if "weight_decay" not in options or decoupled == {"sgd": False, "adam": True}.get(kind):
            yield kind, options


def clipped(grads, options):
    if "clip_value" in options:
        limit = options["clip_value"]
        return {name: mx.clip(g, -limit, limit) for name, g in grads.items()}
    if "max_norm" in options:
        return peers.clip_grad_norm(grads, options["max_norm"])[0]
    return grads


@pytest.mark.parametrize("changing", [False, True], ids=["fixed", "changing"])
@pytest.mark.parametrize(("kind", "options"), list(cases()), ids=ref.case_id)
def test_200_steps(make, kind, options, changing):
    params = [make.normal(s) for s in SIZES]
    scales = [np.power(10, make.uniform(s, np.float64, -1, 1)) for s in SIZES]
    names = [f"p{i}" for i in range(len(SIZES))]
    theirs = {name: mx.array(p) for name, p in zip(names, params, strict=True)}
    peer = optimizer(kind, options)
    states = {
        name: [np.zeros(s, np.float32) for s in SIZES]
        for name in ref.OPTIMIZERS[kind].state_names(options)
    }
    for step in range(1, 201):
        if changing:
            peer.learning_rate = 0.02 * (1 + step % 7) / (1 + step / 20)
        grads = [(s * make.normal(s.shape, np.float64)).astype(np.float32) for s in scales]
        given = {name: mx.array(g) for name, g in zip(names, grads, strict=True)}
        theirs = peer.apply_gradients(clipped(given, options), theirs)
        mx.eval(theirs, peer.state)
        how = {"convention": "mlx", "step": step, "lr": peer.learning_rate.item()}
        assert ref.call_step(ops, kind, params, grads, states, **how, **options)
    for i, name in enumerate(names):
        pairs = [(params[i], theirs[name])]
        pairs += [(states[n][i], peer.state[name][STATES[n]]) for n in states]
        for ours, want in pairs:
            want = np.array(want)
            # Its correction of Adam's bias is in float32.
            allowed = 3e-5 * (1 + np.abs(want).max())
            np.testing.assert_allclose(ours, want, rtol=0, atol=allowed)


@pytest.mark.parametrize("kind", NAMES)
def test_defaults(make, kind):
    """With nothing given but the rate, and gradients near epsilon."""
    params = [make.normal((97,))]
    theirs, peer = {"p": mx.array(params[0])}, optimizer(kind, {})
    states = {n: [np.zeros(97, np.float32)] for n in ref.OPTIMIZERS[kind].state_names({})}
    for step in range(1, 11):
        grads = [make.normal((97,), std=1e-8)]
        theirs = peer.apply_gradients({"p": mx.array(grads[0])}, theirs)
        ref.call_step(ops, kind, params, grads, states, step=step, lr=0.01, convention="mlx")
    np.testing.assert_allclose(params[0], np.array(theirs["p"]), rtol=0, atol=1e-6)
