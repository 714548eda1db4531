"""Bad input of optimizers: errors name argument, expectation and value, and change nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fusednn import ops
from spoilt_calls import (
    CALLS,
    INF,
    NAN,
    OnAnotherDevice,
    case,
    check_refusal,
    ones,
    read_only,
    valid_arrays,
)

CASES = []


def bad(call, error, message, **spoilt):
    CASES.append(case(call, error, message, **spoilt))


def first(array):
    """The parameters with another first one."""
    return lambda a: [array, *a.p[1:]]


# --- Lists of arrays ---
bad("sgd_step", ValueError, "`params`.*at least one.*empty", params=[], grads=[],
    momentum_buffers=[])  # fmt: skip
bad("sgd_step", TypeError, "`params`.*list.*float", params=3.0)
bad("sgd_step", TypeError, "`grads`.*list.*NoneType", grads=None)
bad("global_norm", TypeError, "`arrays`.*list.*float", arrays=3.0)
LISTS = {
    "grads": "sgd_step",
    "sums": "adagrad_step",
    "square_avgs": "rmsprop_step",
    "exp_avg_sqs": "adam_step",
    "exp_infs": "adamax_step",
    "ema": "adam_step",
    "low_precision_copies": "adam_step",
}
for name, call in LISTS.items():
    valid = CALLS[call](valid_arrays())[name]
    bad(call, ValueError, f"`{name}`.*3.*2", **{name: valid[:2]})
    turned = [valid[0].reshape(2, 3), *valid[1:]]
    bad(call, ValueError, rf"`{name}\[0\]`.*\(3, 2\).*\(2, 3\)", **{name: turned})
    for wrong, received in ((ones(3, 2, dtype=int), "int64"), (ones(3, 2, dtype=float), "float64")):
        message = rf"`{name}\[0\]`.*{received}"
        bad(call, TypeError, message, **{name: [wrong, *valid[1:]]})
    message = rf"`{name}\[0\]`.*CPU.*OnAnotherDevice"
    bad(call, RuntimeError, message, **{name: [OnAnotherDevice(), *valid[1:]]})
    if name != "grads":
        message = rf"`{name}\[0\]`.*read-only"
        bad(call, ValueError, message, **{name: [read_only(valid[0]), *valid[1:]]})
bad("sgd_step", TypeError, r"`params\[0\]`.*int64", params=first(ones(3, 2, dtype=int)))
bad("sgd_step", TypeError, r"`params\[0\]`.*list", params=first([1.0]))
bad("sgd_step", ValueError, r"`params\[0\]`.*read-only", params=first(read_only(ones(3, 2))))
bad("sgd_step", ValueError, r"`params\[0\]`.*strides", params=first(ones(3, 4)[:, ::2]))
bad("sgd_step", TypeError, "`params`.*float32.*float64",
    params=lambda a: [a.p[0], *(p.astype(float) for p in a.p[1:])],
    grads=lambda a: [a.g[0], *(g.astype(float) for g in a.g[1:])],
    momentum_buffers=lambda a: [a.s1[0], *(s.astype(float) for s in a.s1[1:])])  # fmt: skip
bad("rmsprop_step", TypeError, r"`square_avgs\[0\]`.*float32.*float64",
    square_avgs=lambda a: [s.astype(np.float64) for s in a.s1])  # fmt: skip
bad("adam_step", TypeError, r"`low_precision_copies\[0\]`.*float16.*float32",
    low_precision_copies=lambda a: a.s3)  # fmt: skip
bad("global_norm", TypeError, r"`arrays\[1\]`.*int64", arrays=lambda a: [a.x, np.arange(3)])
bad("sgd_step", ValueError, r"`params\[.\]`.*overlap.*`params\[.\]`.*once",
    params=lambda a: [a.p[0]] * 2, grads=lambda a: [a.g[0]] * 2,
    momentum_buffers=lambda a: [a.s1[0], a.s2[0]])  # fmt: skip
bad("sgd_step", ValueError, r"`params\[.\]`.*overlap", params=lambda a: [
    a.memory[:6].reshape(3, 2), a.memory[5:10], a.memory[:0]])  # fmt: skip
bad("sgd_step", ValueError, "overlap", momentum_buffers=lambda a: a.p)
bad("sgd_step", ValueError, "overlap", momentum_buffers=lambda a: a.g)
bad("sgd_step", ValueError, "overlap", grads=lambda a: a.p)
bad("adam_step", ValueError, "overlap", exp_avg_sqs=lambda a: a.s1)
bad("adam_step", ValueError, "overlap", ema=lambda a: a.s2)

# --- States and conventions ---
bad("sgd_step", ValueError, "`momentum_buffers`.*`momentum`.*None", momentum_buffers=None)
bad("rmsprop_step", ValueError, "`momentum_buffers`.*`momentum`.*None", momentum=0.5)
bad("rmsprop_step", ValueError, "`grad_avgs`.*`centered`.*None", centered=True)
bad("adam_step", ValueError, "`max_exp_avg_sqs`.*`amsgrad`.*None", amsgrad=True)
bad("adagrad_step", ValueError, "`sums`.*None", sums=None)
bad("adam_step", ValueError, "`exp_avgs`.*None", exp_avgs=None)
bad("sgd_step", ValueError, "`nesterov`.*momentum=0", momentum=0.0, nesterov=True)
bad("sgd_step", ValueError, "`nesterov`.*dampening=0.5", dampening=0.5, nesterov=True)
bad("sgd_step", ValueError, "`dampening`.*keras.*dampening=0.5", dampening=0.5, convention="keras")
bad("adagrad_step", ValueError, "`lr_decay`.*keras.*lr_decay=0.5", lr_decay=0.5,
    convention="keras")  # fmt: skip
bad("sgd_step", ValueError, "`convention`.*torch.*keras.*convention=Torch", convention="Torch")
bad("sgd_step", TypeError, r"`params\[0\]`.*`stochastic_rounding_seed`.*float32",
    stochastic_rounding_seed=3)  # fmt: skip
bad("sgd_step", ValueError, "`clip_value`.*`max_norm`", clip_value=1.0, max_norm=1.0)
for call in ("sgd", "adagrad", "rmsprop", "adam", "adamax", "nadam"):
    bad(f"{call}_step", TypeError, rf"^{call}_step\(\) got .* 'weight_decoy'$", weight_decoy=1.0)
    bad(f"{call}_step", TypeError, rf"^{call}_step\(\) got .* 'check_only'$", check_only=True)
bad("adam_step", ValueError, "`ema_momentum`.*`ema` is None.*ema_momentum=1", ema=None,
    ema_momentum=1.0)  # fmt: skip
bad("rmsprop_step", ValueError, "`grad_avgs` must be None where `centered` is off.*centered=False",
    grad_avgs=lambda a: a.s3)  # fmt: skip

# --- Hyper-parameters ---
for value in (0, -3):
    bad("adam_step", ValueError, f"`step`.*at least 1.*step={value}", step=value)
bad("adam_step", ValueError, "`step`.*2.*3", step=[1, 2])
bad("adam_step", ValueError, "`step`.*at least 1.*step=0", step=[1, 0, 1])
bad("adam_step", TypeError, "", step=1.5)
bad("sgd_step", TypeError, "`lr`.*number.*fast", lr="fast")
HYPERPARAMETERS = {
    "sgd_step": {"lr": (NAN, INF, -0.1), "momentum": (NAN, -0.1, 1.5), "dampening": (NAN, INF)},
    "adagrad_step": {"lr": (NAN, -0.1), "lr_decay": (NAN, -1.0), "eps": (NAN, -1e-3, INF)},
    "rmsprop_step": {
        "lr": (NAN, -0.1), "rho": (NAN, -0.1, 1.5), "eps": (NAN, -1e-3), "momentum": (NAN, -0.1)
    },
    "adam_step": {
        "lr": (NAN, -0.1), "beta1": (NAN, -0.1, 1.0), "beta2": (NAN, -0.1, 1.0), "eps": (NAN, -1.0),
        "weight_decay": (NAN, -1.0, INF), "grad_scale": (NAN, 0.0, -2.0, INF),
        "clip_value": (NAN, 0.0, -1.0), "max_norm": (NAN, 0.0), "max_norm_each": (NAN, 0.0),
        "ema_momentum": (NAN, -0.1, 1.1),
    },
    "adamax_step": {"beta1": (NAN, 1.0), "beta2": (NAN, 1.0), "eps": (NAN, -1.0)},
    "nadam_step": {"beta1": (NAN, 1.0), "beta2": (NAN, 1.0), "momentum_decay": (NAN, -1.0, INF)},
}  # fmt: skip
for call, domains in HYPERPARAMETERS.items():
    for name, values in domains.items():
        for value in values:
            bad(call, ValueError, f"`{name}`.*{name}={value:g}", **{name: value})


@pytest.mark.parametrize(("call", "spoilt", "error", "message"), CASES)
def test_error(call, spoilt, error, message):
    check_refusal(call, spoilt, error, message)


def test_empty_arrays_in_one_memory_do_not_overlap():
    memory = ones(20)
    params = [memory[:10], memory[5:5], memory[10:]]
    ops.sgd_step(params, [np.ones_like(p) for p in params], None, step=1, lr=0.1)


def test_gradients_may_be_given_twice():
    """They are only read."""
    grad = ones(3)
    assert ops.sgd_step([ones(3), ones(3)], [grad, grad], None, step=1, lr=0.1)


def test_a_number_of_the_wrong_type_is_named():
    a = valid_arrays()
    for call, name in [
        (lambda: ops.sgd_step(a.p, a.g, None, step=1.5, lr=0.1), "step=1.5"),
        (lambda: ops.sgd_step(a.p, a.g, None, step=None, lr=0.1), "step=None"),
        (lambda: ops.sgd_step(a.p, a.g, None, step=1, lr="a"), "lr='a'"),
        (lambda: ops.sgd_step(a.p, a.g, None, step=1, lr=0.1, convention=None), "convention=None"),
        (lambda: ops.sgd_step(a.p, a.g, None, step=1, lr=0.1, maximize="no"), "maximize='no'"),
        (lambda: ops.sgd_step(a.p, a.g, None, step=1, lr=0.1, grad_scale="a"), "grad_scale='a'"),
    ]:
        argument = name.partition("=")[0]
        with pytest.raises(TypeError, match=rf"`{argument}` must be.*Received: {re.escape(name)}"):
            call()
    with pytest.raises(ValueError, match="`step` must fit 64 bits"):
        ops.sgd_step(a.p, a.g, None, step=2**63, lr=0.1)


def test_misspelt_names_and_a_missing_rate_are_refused():
    a = valid_arrays()
    with pytest.raises(
        TypeError, match=r"`states` must be among momentum_buffers.*'momentum_bufer'"
    ):
        ops.optimizer_step("sgd", a.p, a.g, {"momentum_bufer": a.s1}, {"lr": 0.1}, step=1)
    with pytest.raises(TypeError, match=r"`hyperparameters` must be among lr.*'rate'"):
        ops.optimizer_step("sgd", a.p, a.g, {}, {"rate": 0.1}, step=1)
    with pytest.raises(TypeError, match=r"`hyperparameters` must be a dict.*list"):
        ops.optimizer_step("sgd", a.p, a.g, {}, [0.1], step=1)
    with pytest.raises(TypeError, match=r"`states` must be a string.*states=1"):
        ops.optimizer_step("sgd", a.p, a.g, {1: a.s1}, {"lr": 0.1}, step=1)
    with pytest.raises(ValueError, match=r"`lr` must be given"):
        ops.optimizer_step("sgd", a.p, a.g, {}, {}, step=1)
    with pytest.raises(ValueError, match=r"`kind` must be one of sgd.*kind=foo"):
        ops.optimizer_step("foo", a.p, a.g, {}, {"lr": 0.1}, step=1)
    with pytest.raises(TypeError, match=r"`params` must be a list of arrays.*ndarray"):
        ops.sgd_step(a.x, a.g, None, step=1, lr=0.1)
