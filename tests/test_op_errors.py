"""Bad input: each error names argument, expectation and value received, and changes nothing."""

from __future__ import annotations

import ctypes
import re
from types import SimpleNamespace

import numpy as np
import pytest

from fusednn import ops

NAN, INF = float("nan"), float("inf")


class OnAnotherDevice:
    """What an array in a GPU's memory looks like."""

    shape, dtype = (4, 3, 5), np.dtype(np.float32)

    def __dlpack__(self, **_):
        raise AssertionError("memory of another device must not be read")

    def __dlpack_device__(self):
        return (2, 0)


def valid_arrays():
    """Arguments of every operation: x is (4, 3, 5), params are three arrays, one of them empty."""
    rng = np.random.default_rng(7)
    a = SimpleNamespace()
    a.x, a.grad, a.out = rng.standard_normal((3, 4, 3, 5)).astype(np.float32)
    for name in ("gamma", "beta", "mean", "inv_std", "var"):
        setattr(a, name, rng.uniform(0.5, 2, 3).astype(np.float32))
    a.memory = rng.standard_normal(200).astype(np.float32)
    for name in ("p", "g", "s1", "s2", "s3", "ema"):
        arrays = [rng.uniform(0.5, 2, shape) for shape in ((3, 2), (5,), (0,))]
        setattr(a, name, [array.astype(np.float32) for array in arrays])
    a.low = [np.zeros(p.shape, np.float16) for p in a.p]
    return a


def affine(a):
    return {"gamma": a.gamma, "beta": a.beta}


def saved(a):
    return {"grad": a.grad, "x": a.x, **affine(a), "mean": a.mean, "inv_std": a.inv_std}


def population(a):
    return {**affine(a), "running_mean": a.mean, "running_var": a.var, "out": a.out}


def stepped(a):
    return {"params": a.p, "grads": a.g, "step": 1, "lr": 0.1}


# Valid calls, for the cases below to spoil.
CALLS = {
    "leaky_relu": lambda a: {"x": a.x, "out": a.out},
    "leaky_relu_backward": lambda a: {"grad": a.grad, "x": a.x, "out": a.out},
    "batch_norm_forward": lambda a: {"x": a.x, **affine(a), "out": a.out},
    "batch_norm_backward": lambda a: {**saved(a), "out": a.out},
    "batch_norm_backward_from_output": lambda a: {
        "grad": a.grad, "y": a.x, **affine(a), "inv_std": a.inv_std, "out": a.out
    },
    "batch_norm_inference": lambda a: {"x": a.x, **population(a)},
    "batch_norm_inference_backward": lambda a: {"grad": a.grad, "x": a.x, **population(a)},
    "batch_norm_statistics": lambda a: {"x": a.x},
    "merge_statistics": lambda a: {"parts": [(a.mean, a.var, 3), (a.beta, a.inv_std, 2)]},
    "batch_norm_apply": lambda a: {
        "x": a.x, **affine(a), "mean": a.mean, "inv_std": a.inv_std, "out": a.out
    },
    "batch_norm_backward_reduce": saved,
    "batch_norm_backward_apply": lambda a: {
        **saved(a), "sum_grad": a.beta, "sum_grad_xhat": a.var, "count": 20, "out": a.out
    },
    "sgd_step": lambda a: {**stepped(a), "momentum_buffers": a.s1, "momentum": 0.9},
    "adagrad_step": lambda a: {**stepped(a), "sums": a.s1},
    "rmsprop_step": lambda a: {**stepped(a), "square_avgs": a.s1},
    "adam_step": lambda a: {
        **stepped(a), "exp_avgs": a.s1, "exp_avg_sqs": a.s2, "ema": a.ema,
        "low_precision_copies": a.low,
    },
    "adamax_step": lambda a: {**stepped(a), "exp_avgs": a.s1, "exp_infs": a.s2},
    "nadam_step": lambda a: {**stepped(a), "exp_avgs": a.s1, "exp_avg_sqs": a.s2},
    "global_norm": lambda a: {"arrays": a.g},
}  # fmt: skip
FORWARD, BACKWARD, FROM_Y = (
    f"batch_norm_{x}" for x in ("forward", "backward", "backward_from_output")
)
INFERENCE, FROZEN = "batch_norm_inference", "batch_norm_inference_backward"
CASES = []


def bad(call, error, message, **spoilt):
    """`call` with `spoilt` arguments (functions are given the valid arrays) raises `error`."""
    CASES.append(pytest.param(call, spoilt, error, message, id=f"{call}-{'-'.join(spoilt)}"))


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def read_only(x):
    view = x[...]
    view.flags.writeable = False
    return view


def part(start):
    """60 numbers of one memory as an array like x; of two starts less than 60 apart overlap."""
    return lambda a: a.memory[start : start + 60].reshape(4, 3, 5)


def first(array):
    """The parameters with another first one."""
    return lambda a: [array, *a.p[1:]]


# --- Not an array, wrong dtype ---
for call, names in {
    "leaky_relu": "x out",
    "leaky_relu_backward": "grad x out",
    FORWARD: "x gamma beta out",
    BACKWARD: "grad x mean inv_std",
    FROM_Y: "y",
    INFERENCE: "running_mean running_var",
}.items():
    for name in names.split():
        bad(call, TypeError, f"`{name}`.*NumPy array.*list", **{name: [1.0]})
        bad(call, TypeError, f"`{name}`.*NumPy array.*float", **{name: 2.0})
        # Where results are to be allocated its package is asked for first.
        errors = TypeError if name in "xy" and call.startswith("batch_norm") else RuntimeError
        bad(call, errors, f"`{name}`.*OnAnotherDevice", **{name: OnAnotherDevice()})
bad("leaky_relu", TypeError, "`x`.*NoneType", x=None)
bad(BACKWARD, TypeError, "`mean`.*NoneType", mean=None)
bad("leaky_relu", TypeError, "`x`.*float32.*int64", x=np.arange(3), out=None)
bad("leaky_relu", TypeError, "`x`.*float32.*>f4", x=lambda a: a.x.astype(">f4"), out=None)
bad("leaky_relu", TypeError, "`x`.*object", x=lambda a: a.x.astype(object), out=None)
bad(FORWARD, TypeError, "`x`.*complex64", x=lambda a: a.x + 1j, out=None)
bad("batch_norm_statistics", TypeError, "`x`.*bool", x=lambda a: a.x > 0)
bad(BACKWARD, TypeError, "`grad`.*float32.*float64", grad=ones(4, 3, 5, dtype=np.float64))
bad("leaky_relu_backward", TypeError, "`grad`.*float32.*float16",
    grad=ones(4, 3, 5, dtype=np.float16))  # fmt: skip
bad(FORWARD, TypeError, "`out`.*float64", out=ones(4, 3, 5, dtype=np.float64))
bad(FORWARD, TypeError, "`gamma`.*float32.*float64", gamma=ones(3, dtype=np.float64))
bad(FORWARD, TypeError, "`gamma`.*float64.*float32", x=ones(4, 3, 5, dtype=np.float64), out=None)
bad(FORWARD, TypeError, "`gamma`.*float32.*float16", x=ones(4, 3, 5, dtype=np.float16), out=None,
    gamma=ones(3, dtype=np.float16))  # fmt: skip

# --- Wrong shape ---
bad(FORWARD, ValueError, r"`gamma`.*\(3,\).*\(4,\)", gamma=ones(4))
bad(FORWARD, ValueError, r"`gamma`.*\(3,\).*\(\)", gamma=ones())
bad(FORWARD, ValueError, r"`beta`.*\(3,\).*\(3, 1\)", beta=ones(3, 1))
bad(BACKWARD, ValueError, r"`mean`.*\(3,\).*\(5,\)", mean=ones(5))
bad(FROM_Y, ValueError, r"`inv_std`.*\(3,\).*\(1,\)", inv_std=ones(1))
bad(INFERENCE, ValueError, r"`running_mean`.*\(3,\).*\(2,\)", running_mean=ones(2))
bad(FROZEN, ValueError, r"`running_var`.*\(3,\).*\(4,\)", running_var=ones(4))
bad("batch_norm_backward_apply", ValueError, r"`sum_grad`.*\(3,\).*\(2,\)", sum_grad=ones(2))
bad("batch_norm_apply", ValueError, r"`mean`.*\(3,\).*\(2,\)", mean=ones(2))
bad(BACKWARD, ValueError, r"`grad`.*\(4, 3, 5\).*\(3, 3, 5\)", grad=ones(3, 3, 5))
bad(BACKWARD, ValueError, r"`grad`.*\(4, 3, 5\).*\(3, 5\)", grad=ones(3, 5))
bad("batch_norm_backward_reduce", ValueError, r"`grad`.*\(4, 3, 4\)", grad=ones(4, 3, 4))
bad("leaky_relu_backward", ValueError, r"`grad`.*\(4, 3, 5\).*\(60,\)", grad=ones(60))
bad("leaky_relu", ValueError, r"`out`.*\(4, 3, 5\).*\(2, 3, 5\)", out=ones(2, 3, 5))
bad("batch_norm_apply", ValueError, r"`out`.*\(4, 3, 5\).*\(12, 5\)", out=ones(12, 5))
bad(FORWARD, ValueError, "`out`.*3.*2", out=lambda a: (a.out, a.mean))
bad(FORWARD, ValueError, r"`mean`.*\(3,\).*\(2,\)", out=lambda a: (a.out, ones(2), a.var))
bad(FORWARD, ValueError, r"`x`.*`channel_axis`.*\(\)", x=ones(), out=None)
bad(FORWARD, ValueError, "`channel_axis`.*channel_axis=1", x=ones(3), out=None)
bad(FORWARD, ValueError, "`channel_axis`.*channel_axis=3", channel_axis=3)
bad(INFERENCE, ValueError, "`channel_axis`.*channel_axis=-4", channel_axis=-4)
bad(FORWARD, ValueError, r"`unbiased_running_var`.*\(1, 3\)", x=ones(1, 3), out=None,
    running_mean=lambda a: a.mean, running_var=lambda a: a.var)  # fmt: skip
bad("merge_statistics", ValueError, "`parts`.*empty", parts=[])
bad("merge_statistics", ValueError, r"parts\[1\].mean.*\(3,\).*\(2,\)",
    parts=lambda a: [(a.mean, a.var, 3), (ones(2), a.var, 3)])  # fmt: skip
bad("merge_statistics", TypeError, r"parts\[1\].m2.*float32.*float64",
    parts=lambda a: [(a.mean, a.var, 3), (a.mean, ones(3, dtype=np.float64), 3)])  # fmt: skip
bad("merge_statistics", ValueError, r"parts\[0\].count.*negative.*-3",
    parts=lambda a: [(a.mean, a.var, -3)])  # fmt: skip

# --- Read-only, strided, overlapping ---
for call in CALLS:
    if "out" in CALLS[call](valid_arrays()):
        bad(call, ValueError, "`out`.*writable.*read-only", out=lambda a: read_only(a.out))
        bad(call, ValueError, "`out`.*strides", out=lambda a: ones(4, 3, 10)[..., ::2])
bad(FORWARD, ValueError, "`mean`.*read-only", out=lambda a: (a.out, read_only(a.mean), a.var))
bad(BACKWARD, ValueError, "`grad_beta`.*read-only",
    out=lambda a: (a.out, ones(3), read_only(a.var)))  # fmt: skip
bad(FORWARD, ValueError, "`running_mean`.*read-only", running_mean=lambda a: read_only(a.mean),
    running_var=lambda a: a.var)  # fmt: skip
bad(FORWARD, ValueError, "`running_var`.*strides", running_mean=lambda a: a.mean,
    running_var=ones(6)[::2])  # fmt: skip
bad(FORWARD, ValueError, "`running_mean`.*`running_var`.*only", running_mean=lambda a: a.mean)
bad(FORWARD, ValueError, "`out`.*overlap.*`x`.*bytes", x=part(0), out=part(1))
bad("leaky_relu", ValueError, "`out`.*overlap.*`x`.*bytes", x=part(10), out=part(0))
bad(BACKWARD, ValueError, "`out`.*overlap.*`grad`", grad=part(59), out=part(0))
bad(FROM_Y, ValueError, "`out`.*overlap.*`y`", y=part(0), out=part(30))
bad(FORWARD, ValueError, "`out`.*overlap.*`gamma`", gamma=lambda a: a.out.ravel()[:3])
bad(FORWARD, ValueError, "overlap", out=lambda a: (a.out, a.out.ravel()[:3], a.var))
bad(FORWARD, ValueError, "overlap", out=lambda a: (a.out, a.mean, a.mean))
bad(FORWARD, ValueError, "overlap", out=lambda a: (a.out, a.gamma, a.mean))
bad(BACKWARD, ValueError, "overlap", out=lambda a: (a.out, a.var, a.var))
bad(FORWARD, ValueError, "`running_.*overlap.*`running_", running_mean=lambda a: a.mean,
    running_var=lambda a: a.mean)  # fmt: skip
bad(FORWARD, ValueError, "`running_mean`.*overlap.*`gamma`", running_mean=lambda a: a.gamma,
    running_var=lambda a: a.var)  # fmt: skip

# --- Numbers ---
for value in (-1e-5, NAN, INF):
    for call in (FORWARD, INFERENCE, FROZEN):
        bad(call, ValueError, "`eps`.*not negative.*eps=", eps=value)
for value in (-0.5, 1.5, NAN, INF):
    bad(FORWARD, ValueError, rf"`momentum`.*\[0, 1\].*momentum={value}", momentum=value)
for value in (NAN, INF):
    for call in ("leaky_relu", "leaky_relu_backward", FORWARD, BACKWARD, INFERENCE):
        bad(call, ValueError, f"`negative_slope`.*negative_slope={value}", negative_slope=value)
for value in (0.0, -0.5, NAN):
    bad(FROM_Y, ValueError, f"`negative_slope`.*negative_slope={value:g}", negative_slope=value)
bad(FROM_Y, ValueError, r"`gamma`.*at least.*gamma\[1\]=0", gamma=np.array([1, 0, 2], np.float32))
bad(FROM_Y, ValueError, r"`gamma`.*at least.*gamma\[2\]", gamma=np.array([1, 1, -0.0], np.float32))
for call in (INFERENCE, FROZEN):
    bad(call, ValueError, r"`running_var`.*negative.*running_var\[2\]=-3",
        running_var=np.array([1, 2, -3], np.float32))  # fmt: skip
bad("batch_norm_backward_apply", ValueError, "`count`.*negative.*-1", count=-1)
bad(FORWARD, TypeError, "", eps="small")
bad("leaky_relu", TypeError, "", negative_slope="steep")

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


def arrays_of(a):
    for value in vars(a).values():
        yield from value if isinstance(value, list) else [value]


@pytest.mark.parametrize(("call", "spoilt", "error", "message"), CASES)
def test_error(call, spoilt, error, message):
    a = valid_arrays()
    arguments = CALLS[call](a)
    arguments |= {name: v(a) if callable(v) else v for name, v in spoilt.items()}
    before = [x.copy() for x in arrays_of(a)]
    with pytest.raises(error, match=f"(?s){message}") as caught:
        getattr(ops, call)(**arguments)
    # The message says what was received, unless Python itself refused the argument.
    assert "Received: " in str(caught.value) or not re.search("`", message)
    for now, then in zip(arrays_of(a), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("call", CALLS)
def test_the_unspoilt_call_passes(call):
    """Otherwise a case above might fail for another reason than its own."""
    getattr(ops, call)(**CALLS[call](valid_arrays()))


def test_empty_arrays_in_one_memory_do_not_overlap():
    memory = ones(20)
    x = memory[5:5].reshape(0, 3, 5)
    ops.batch_norm_forward(x, ones(3), ones(3), out=x)
    ops.leaky_relu(x, out=memory[7:7].reshape(0, 3, 5))
    ops.leaky_relu(memory[:0], out=memory[:0])
    params = [memory[:10], memory[5:5], memory[10:]]
    ops.sgd_step(params, [np.ones_like(p) for p in params], None, step=1, lr=0.1)


def test_gradients_may_be_given_twice():
    """They are only read."""
    grad = ones(3)
    assert ops.sgd_step([ones(3), ones(3)], [grad, grad], None, step=1, lr=0.1)


def test_the_in_place_form_takes_no_activation():
    """None, as 1: the output tells its input."""
    a = valid_arrays()
    arguments = (a.grad, a.x, a.gamma, a.beta, a.inv_std)
    for got, same in zip(
        ops.batch_norm_backward_from_output(*arguments),
        ops.batch_norm_backward_from_output(*arguments, negative_slope=1.0),
        strict=True,
    ):
        np.testing.assert_array_equal(got, same)


def test_a_number_of_the_wrong_type_is_named():
    a = valid_arrays()
    for call, name in [
        (lambda: ops.batch_norm_forward(a.x, None, None, eps="a"), "eps='a'"),
        (lambda: ops.batch_norm_forward(a.x, None, None, momentum=None), "momentum=None"),
        (lambda: ops.batch_norm_forward(a.x, None, None, channel_axis=1.0), "channel_axis=1.0"),
        (lambda: ops.batch_norm_forward(a.x, None, None, channel_axis=True), "channel_axis=True"),
        (lambda: ops.leaky_relu(a.x, "a"), "negative_slope='a'"),
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


def test_statistics_that_cannot_be():
    a = valid_arrays()
    with pytest.raises(TypeError, match=r"`parts\[0\]` must be \(mean, m2, count\)"):
        ops.merge_statistics([(a.mean, a.var)])
    with pytest.raises(TypeError, match=r"`parts` must be a list.*int"):
        ops.merge_statistics(3)
    with pytest.raises(ValueError, match=r"`parts\[0\].m2` must not be negative.*-"):
        ops.merge_statistics([(a.mean, -a.var, 5)])
    tiny = np.full(3, 1e-45, np.float32)
    with pytest.raises(ValueError, match=r"`gamma` must be at least 1\.175.*gamma\[0\]=1\.4"):
        ops.batch_norm_backward_from_output(a.grad, a.x, tiny, None, a.inv_std)
    sums = [np.zeros(3, np.float32) for _ in range(2)]
    with pytest.raises(ValueError, match=r"`count` must be at least.*20.*count=3"):
        ops.batch_norm_backward_apply(a.grad, a.x, None, None, a.mean, a.inv_std, *sums, 3)


def test_a_byte_order_that_is_spelt_out_is_no_error():
    spelt_out = np.ctypeslib.as_array((ctypes.c_float * 2)(-1.0, 2.0))
    np.testing.assert_array_equal(ops.leaky_relu(spelt_out, 0.5), [-0.5, 2.0])
