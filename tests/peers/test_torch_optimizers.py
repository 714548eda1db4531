"""The "torch" convention against `torch.optim`: 200 steps with every option that PyTorch has."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn import ops

torch = pytest.importorskip("torch")

SIZES = ((1,), (7,), (3, 5, 7), (97,))
LR = 0.01
# Our names of hyper-parameters and of states, and PyTorch's.
HYPERPARAMETERS = {"rho": "alpha"}
STATES = {
    "momentum_buffers": "momentum_buffer",
    "sums": "sum",
    "square_avgs": "square_avg",
    "grad_avgs": "grad_avg",
    "exp_avgs": "exp_avg",
    "exp_avg_sqs": "exp_avg_sq",
    "max_exp_avg_sqs": "max_exp_avg_sq",
    "exp_infs": "exp_inf",
}
TORCH_NAMES = {
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamax": "Adamax",
    "nadam": "NAdam",
}
CLIPS = ("clip_value", "max_norm_each", "max_norm")
#: How much more one may err in float64: NAdam keeps a product of factors, which is 0.5 after its
#: first step, in float32, whatever the parameters are.
SHORTER = {"nadam": 1e6}
OURS_ALONE = ("grad_scale", "skip_nonfinite", "ema_momentum")


def optimizer(kind, params, options):
    """The optimizer of `torch.optim` that `options` describe."""
    given = {HYPERPARAMETERS.get(name, name): v for name, v in options.items() if name not in CLIPS}
    decoupled = given.pop("decoupled_weight_decay", False)
    given |= {"lr": LR, "foreach": False}
    if kind in ("adam", "adamax", "nadam"):
        given["betas"] = (given.pop("beta1", 0.9), given.pop("beta2", 0.999))
    if kind == "nadam":
        given["decoupled_weight_decay"] = decoupled
    if kind == "adam":
        return (torch.optim.AdamW if decoupled else torch.optim.Adam)(params, **given)
    if kind == "adagrad":
        given["initial_accumulator_value"] = ref.OPTIMIZERS[kind].initial["sums"]
    return getattr(torch.optim, TORCH_NAMES[kind])(params, **given)


def clip(params, options):
    if "clip_value" in options:
        torch.nn.utils.clip_grad_value_(params, options["clip_value"])
    if "max_norm" in options:
        torch.nn.utils.clip_grad_norm_(params, options["max_norm"])
    for p in params if "max_norm_each" in options else ():
        torch.nn.utils.clip_grad_norm_([p], options["max_norm_each"])


def cases():
    for kind, convention, options in ref.optimizer_cases():
        ours_alone = any(name in options for name in OURS_ALONE)
        # Only Adam has a decoupled form, AdamW, and NAdam an option.
        missing = options.get("decoupled_weight_decay") and kind not in ("adam", "nadam")
        missing = missing or kind not in TORCH_NAMES
        if convention == "torch" and not ours_alone and not missing:
            yield kind, options
    yield "adam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), list(cases()), ids=ref.case_id)
def test_200_steps(make, kind, options, dtype):
    params = [make.normal(s, dtype) for s in SIZES]
    scales = [np.power(10, make.uniform(s, np.float64, -1, 1)) for s in SIZES]
    theirs = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    peer = optimizer(kind, theirs, options)
    states = ref.initial_states(kind, params, options)
    states = {name: [a.astype(dtype) for a in arrays] for name, arrays in states.items()}
    for step in range(1, 201):
        grads = [(s * make.normal(s.shape, np.float64)).astype(dtype) for s in scales]
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g.copy())
        clip(theirs, options)
        peer.step()
        assert ref.call_step(ops, kind, params, grads, states, step=step, lr=LR, **options)
    tolerance = 3e-5 if dtype == np.float32 else 1e-12 * SHORTER.get(kind, 1)
    for ours, p in zip(params, theirs, strict=True):
        peer_p = p.detach().numpy()
        np.testing.assert_allclose(ours, peer_p, atol=tolerance * (1 + np.abs(peer_p).max()))
    for name, arrays in states.items():
        for ours, p in zip(arrays, theirs, strict=True):
            peer_state = peer.state[p][STATES[name]].numpy()
            allowed = tolerance * (1 + np.abs(peer_state).max())
            np.testing.assert_allclose(ours, peer_state, atol=allowed)


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
def test_defaults(make, kind):
    """With nothing given but the rate."""
    params = [make.normal((97,), np.float64)]
    theirs = torch.nn.Parameter(torch.from_numpy(params[0].copy()))
    peer = optimizer(kind, [theirs], {})
    states = ref.initial_states(kind, params, {})
    for step in range(1, 11):
        grad = make.normal((97,), np.float64, std=1e-6)  # near epsilon
        theirs.grad = torch.from_numpy(grad.copy())
        peer.step()
        ref.call_step(ops, kind, params, [grad], states, step=step, lr=LR)
    np.testing.assert_allclose(
        params[0], theirs.detach().numpy(), rtol=0, atol=1e-14 * SHORTER.get(kind, 1)
    )


def scheduled_cases():
    for kind in TORCH_NAMES:
        for options in ref.own_cases(kind, "torch"):
            yield kind, options
        yield kind, ref.own_cases(kind, "torch")[-1] | {"weight_decay": 0.1}
    yield "adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}


@pytest.mark.parametrize(("kind", "options"), list(scheduled_cases()), ids=ref.case_id)
def test_a_schedule(make, kind, options):
    """The rate acts on the buffer as it is, not on gradients already in it."""
    params = [make.normal((97,), np.float64)]
    theirs = torch.nn.Parameter(torch.from_numpy(params[0].copy()))
    peer = optimizer(kind, [theirs], options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(peer, 13)
    states = ref.initial_states(kind, params, options)
    rates = set()
    for step in range(1, 41):
        grad = make.normal((97,), np.float64)
        theirs.grad = torch.from_numpy(grad.copy())
        (lr,) = schedule.get_last_lr()
        peer.step()
        schedule.step()
        ref.call_step(ops, kind, params, [grad], states, step=step, lr=lr, **options)
        rates.add(lr)
    assert len(rates) == 13
    np.testing.assert_allclose(
        params[0], theirs.detach().numpy(), atol=1e-12 * SHORTER.get(kind, 1)
    )


def test_grad_scale_is_that_of_the_grad_scaler(make):
    params, grads = [make.normal((97,))], [make.normal((97,))]
    theirs = torch.nn.Parameter(torch.from_numpy(params[0].copy()))
    theirs.grad = torch.from_numpy(grads[0] / np.float32(1024))
    torch.optim.SGD([theirs], lr=0.5).step()
    ops.sgd_step(params, grads, None, step=1, lr=0.5, grad_scale=1024.0)
    np.testing.assert_array_equal(params[0], theirs.detach().numpy())


@pytest.mark.parametrize("ema_momentum", [0.0, 0.9])
def test_ema_is_that_of_swa_utils(make, ema_momentum):
    params = [make.normal((97,), np.float64)]
    ema = [np.full(97, np.nan)]
    average = torch.optim.swa_utils.AveragedModel(
        torch.nn.ParameterList([torch.from_numpy(params[0].copy())]),
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema_momentum),
    )
    for step in range(1, 11):
        grad = [make.normal((97,), np.float64)]
        ops.sgd_step(params, grad, None, step=step, lr=0.1, ema=ema, ema_momentum=ema_momentum)
        average.update_parameters(torch.nn.ParameterList([torch.from_numpy(params[0].copy())]))
    theirs = next(iter(average.parameters())).detach().numpy()
    np.testing.assert_allclose(ema[0], theirs, atol=1e-14)


def test_global_norm(make):
    arrays = [make.normal(s) for s in ((0,), (97,), (300, 1_001))]
    theirs = torch.nn.utils.get_total_norm([torch.from_numpy(a) for a in arrays])
    assert ops.global_norm(arrays) == pytest.approx(float(theirs), rel=1e-5)
