"""Bad input: each error names argument, expectation and value received, and changes nothing.

Those of optimizers are in `test_optimizer_op_errors.py`.
"""

from __future__ import annotations

import ctypes
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

FORWARD, BACKWARD, FROM_Y = (
    f"batch_norm_{x}" for x in ("forward", "backward", "backward_from_output")
)
INFERENCE, FROZEN = "batch_norm_inference", "batch_norm_inference_backward"
CASES = []


def bad(call, error, message, **spoilt):
    CASES.append(case(call, error, message, **spoilt))


def part(start):
    """60 numbers of one memory as an array like x; of two starts less than 60 apart overlap."""
    return lambda a: a.memory[start : start + 60].reshape(4, 3, 5)


# --- Not an array, wrong dtype ---
ACCEPTED = (
    "must be an array of NumPy, PyTorch, CuPy, JAX or another.*DLPack or the CUDA array interface"
)
for call, names in {
    "leaky_relu": "x out",
    "leaky_relu_backward": "grad x out",
    FORWARD: "x gamma beta out",
    BACKWARD: "grad x mean inv_std",
    FROM_Y: "y",
    INFERENCE: "running_mean running_var",
}.items():
    for name in names.split():
        for given, kind in (([1.0], "list"), (2.0, "float"), (memoryview(b""), "memoryview")):
            message = f"^`{name}` {ACCEPTED}. Received: type={kind}$"
            bad(call, TypeError, message, **{name: given})
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


@pytest.mark.parametrize(("call", "spoilt", "error", "message"), CASES)
def test_error(call, spoilt, error, message):
    check_refusal(call, spoilt, error, message)


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
    ]:
        argument = name.partition("=")[0]
        with pytest.raises(TypeError, match=rf"`{argument}` must be.*Received: {re.escape(name)}"):
            call()


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
