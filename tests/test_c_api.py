"""What a C program gets wrong is an error that names the argument; nothing crashes or changes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_double, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

import pytest

from loaded_library import loaded_library


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("ndim", c_int32),
        ("dtype", c_int32),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("flags", c_uint32),
    ]


class BatchNormOptions(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("channel_axis", c_int64),
        ("eps", c_double),
        ("momentum", c_double),
        ("negative_slope", c_double),
        ("unbiased_running_var", c_int32),
    ]


class OptimizerOptions(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("convention", c_int32),
        ("given", c_uint32),
        ("hyperparameters", c_double * 8),
        ("weight_decay", c_double),
        ("decoupled_weight_decay", c_int32),
        ("maximize", c_int32),
        *((name, c_double) for name in ("grad_scale", "clip_value", "max_norm_each", "max_norm")),
        ("skip_nonfinite", c_int32),
        ("stochastic_rounding", c_int32),
        ("ema_momentum", c_double),
        ("stochastic_rounding_seed", c_uint64),
        ("device_scalars", c_void_p),
    ]


class OptimizerTensors(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("count", ctypes.c_int64),
        ("params", ctypes.c_void_p),
        ("grads", ctypes.c_void_p),
        ("states", ctypes.c_void_p * 4),
        ("ema", ctypes.c_void_p),
        ("low_precision_copies", ctypes.c_void_p),
        ("steps", ctypes.c_void_p),
        ("step_count", ctypes.c_int64),
        ("state_scales", ctypes.c_void_p * 4),
    ]


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    found = loaded_library()
    found.fnn_last_error.restype = ctypes.c_char_p
    return found


def tensor(*shape: int, **change: Any) -> Tensor:
    """A float32 tensor of C order, whose description `change` spoils."""
    count = 1
    for length in shape:
        count *= length
    memory = (ctypes.c_float * (count if 0 < count < 1000 else 1))(7.0)
    made = Tensor(
        data=ctypes.addressof(memory), shape=(c_int64 * len(shape))(*shape), ndim=len(shape)
    )
    made.memory = memory  # kept as long as what points to it
    for name, value in change.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (tensor(4, 3, shape=None), "have a length for each axis. Received: ndim=2, shape=NULL"),
        (tensor(4, 3, ndim=-1), "have from 0 to 64 axes. Received: ndim=-1"),
        (tensor(4, 3, ndim=65), "have from 0 to 64 axes. Received: ndim=65"),
        (tensor(4, 3, ndim=2**31 - 1), "have from 0 to 64 axes. Received: ndim=2147483647"),
        (tensor(-4, 3), "have lengths that are not negative. Received: shape=(-4, 3)"),
        (tensor(2**40, 2**40), "have fewer than 2^63 bytes. Received: shape="),
        (tensor(0, 2**40, 2**40), "have fewer than 2^63 bytes. Received: shape="),
        (tensor(4, 3, data=None), "have memory. Received: data=NULL, shape=(4, 3)"),
        (tensor(4, 3, flags=6), "have no flags but FNN_READ_ONLY. Received: flags=6"),
        (tensor(4, 3, dtype=99), "be float32, float64, float16 or bfloat16. Received: dtype=99"),
        (None, "be an array. Received: NULL"),
    ],
)
def test_descriptions_that_do_not_hold_together(
    x: Tensor | None, message: str, library: ctypes.CDLL
) -> None:
    given = None if x is None else byref(x)
    y = tensor(4, 3)
    assert library.fnn_leaky_relu(given, c_double(0.1), byref(y)) in {1, 2}
    assert library.fnn_last_error().decode().startswith(f"`x` must {message}")
    assert y.memory[0] == 7.0
    norm = c_double(5.0)
    if x is not None:
        assert library.fnn_global_norm(c_int64(1), given, byref(norm)) in {1, 2}
        assert library.fnn_last_error().decode().startswith("`arrays[0]` must ")
        assert norm.value == 5.0


def test_outputs_are_called_as_in_the_header(library: ctypes.CDLL) -> None:
    x, grad, line = tensor(4, 3), tensor(4, 3), tensor(20)
    begin, later = (
        Tensor(line.data + 4 * i, (c_int64 * 2)(4, 3), None, 2, 0, 0, 0, 0) for i in (0, 3)
    )
    overlapping = {
        "y": lambda: library.fnn_leaky_relu(byref(begin), c_double(0.1), byref(later)),
        "grad_x": lambda: library.fnn_leaky_relu_backward(
            byref(grad), byref(begin), c_double(0.1), byref(later)
        ),
    }
    for name, call in overlapping.items():
        assert call() == 2
        assert library.fnn_last_error().decode().startswith(f"`{name}` must not overlap `x`")
    fixed = tensor(4, 3, flags=1)
    assert library.fnn_leaky_relu(byref(x), c_double(0.1), byref(fixed)) == 2
    assert library.fnn_last_error().decode().startswith("`y` must be writable")
    assert fixed.memory[0] == line.memory[0] == 7.0


def test_as_many_axes_as_numpy_has(library: ctypes.CDLL) -> None:
    x, y = tensor(*[1] * 63, 2), tensor(*[1] * 63, 2)
    x.memory[0] = -4.0
    assert library.fnn_leaky_relu(byref(x), c_double(0.5), byref(y)) == 0
    assert y.memory[0] == -2.0


def test_arrays_without_elements_need_no_memory(library: ctypes.CDLL) -> None:
    empty = tensor(0, 3, data=None)
    assert library.fnn_leaky_relu(byref(empty), c_double(0.1), byref(empty)) == 0


def batch_norm(library: ctypes.CDLL, options: BatchNormOptions | None) -> int:
    x, y, mean, inv_std = tensor(4, 3), tensor(4, 3), tensor(3), tensor(3)
    given = None if options is None else byref(options)
    status = library.fnn_batch_norm_forward(
        *(byref(x), None, None, None, None, given, byref(y), byref(mean), byref(inv_std))
    )
    assert (status == 0) == (y.memory[0] != 7.0)
    return int(status)


def test_options(library: ctypes.CDLL) -> None:
    options = BatchNormOptions(ctypes.sizeof(BatchNormOptions), 1, 1e-5, 0.1, 0.1, 0)
    assert batch_norm(library, options) == 0
    assert batch_norm(library, None) == 2
    assert library.fnn_last_error() == b"`options` must not be NULL. Received: NULL"
    options.size = 8
    assert batch_norm(library, options) == 2
    assert library.fnn_last_error().startswith(b"`options`.size must be 48 for this version")


def test_a_seed_needs_rounding_that_uses_it(library: ctypes.CDLL) -> None:
    o = OptimizerOptions(size=ctypes.sizeof(OptimizerOptions), given=1, grad_scale=1.0)
    o.clip_value = o.max_norm_each = o.max_norm = float("inf")
    o.stochastic_rounding_seed = 7
    assert library.fnn_optimizer_step(0, byref(o), None, None) == 2
    assert library.fnn_last_error().decode() == (
        "`stochastic_rounding_seed` must be 0 without `stochastic_rounding`. "
        "Received: stochastic_rounding_seed=7"
    )
    o.stochastic_rounding = 1
    assert library.fnn_optimizer_step(0, byref(o), None, None) == 2
    assert library.fnn_last_error().startswith(b"`tensors` must not be NULL")


A = byref(tensor(3))
COUNT = byref(c_int64())


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda f: f.fnn_context_create(None, COUNT), "settings"),
        (lambda f: f.fnn_optimizer_step(0, None, None, None), "options"),
        (lambda f: f.fnn_optimizer_plan_create(0, None, COUNT), "tensors"),
        (lambda f: f.fnn_optimizer_plan_create(0, None, None), "plan"),
        (lambda f: f.fnn_optimizer_plan_set_grads(None, None), "plan"),
        (lambda f: f.fnn_optimizer_plan_step(None, None, None, c_int64(1), None), "plan"),
        (lambda f: f.fnn_optimizer_plan_check(None, None, None, c_int64(1)), "plan"),
        (lambda f: f.fnn_batch_norm_unrecoverable(A, None, None, None, None), "channel"),
        (lambda f: f.fnn_global_norm(c_int64(1), None, COUNT), "arrays"),
        (lambda f: f.fnn_global_norm(c_int64(1), A, None), "norm"),
        (lambda f: f.fnn_merge_statistics(c_int64(1), None, A, COUNT, A, A, COUNT), "means"),
        (lambda f: f.fnn_merge_statistics(c_int64(1), A, None, COUNT, A, A, COUNT), "m2s"),
        (lambda f: f.fnn_merge_statistics(c_int64(1), A, A, None, A, A, COUNT), "counts"),
        (lambda f: f.fnn_merge_statistics(c_int64(1), A, A, COUNT, A, A, None), "count"),
        (lambda f: f.fnn_batch_norm_statistics(A, None, A, A, None), "count"),
        (lambda f: f.fnn_stream(1, None, 0, None, None, 0), "inputs"),
        (lambda f: f.fnn_stream(0, None, 1, None, None, 0), "updated"),
        (lambda f: f.fnn_cuda_device_count(None), "count"),
        (lambda f: f.fnn_cuda_device_of(None, None), "device_id"),
        (lambda f: f.fnn_cuda_versions(None, None), "driver"),
        (lambda f: f.fnn_cuda_describe(0, None, c_size_t(9), None, None, None), "name"),
    ],
)
def test_null(call: Callable[[ctypes.CDLL], int], name: str, library: ctypes.CDLL) -> None:
    assert call(library) == 2
    assert library.fnn_last_error().decode() == f"`{name}` must not be NULL. Received: NULL"


def test_null_where_an_array_is_due(library: ctypes.CDLL) -> None:
    for arguments in ((None, A, A), (A, None, A), (A, A, None)):
        assert library.fnn_codes_to_float(*arguments) == 2
        assert b"must be an array. Received: NULL" in library.fnn_last_error()
    assert library.fnn_optimizer_kind(None) == -1


def optimizer_tensors(**change: Any) -> OptimizerTensors:
    """Of one array of three elements, with one state for it."""
    param, grad, state = tensor(3), tensor(3), tensor(3)
    made = OptimizerTensors(size=ctypes.sizeof(OptimizerTensors), count=1, step_count=1)
    made.params, made.grads, made.states[0] = map(ctypes.addressof, (param, grad, state))
    made.memory = param, grad, state
    for name, value in change.items():
        setattr(made, name, value)
    return made


def test_options_of_a_plan(library: ctypes.CDLL) -> None:
    plan, steps = c_void_p(), c_int64(1)
    lists = optimizer_tensors()
    assert library.fnn_optimizer_plan_create(0, byref(lists), byref(plan)) == 0
    for call in (
        lambda o: library.fnn_optimizer_plan_step(plan, o, byref(steps), c_int64(1), None),
        lambda o: library.fnn_optimizer_plan_check(plan, o, byref(steps), c_int64(1)),
    ):
        assert call(None) == 2
        assert library.fnn_last_error() == b"`options` must not be NULL. Received: NULL"
        assert call(byref(c_size_t(8))) == 2
        assert library.fnn_last_error().startswith(b"`options`.size must be ")
    library.fnn_optimizer_plan_destroy(plan)
    assert lists.memory[0].memory[0] == 7.0


def test_what_an_optimizer_does_not_have(library: ctypes.CDLL) -> None:
    sgd, plan = library.fnn_optimizer_kind(b"sgd"), c_void_p()
    spare = optimizer_tensors(states=(c_void_p * 4)(*[optimizer_tensors().params] * 2))
    assert library.fnn_optimizer_plan_create(sgd, byref(spare), byref(plan)) == 2
    assert library.fnn_last_error() == (
        b"`states[1]` must be NULL: sgd has 1 state. Received: a list"
    )
    o = OptimizerOptions(size=ctypes.sizeof(OptimizerOptions), given=1 | 1 << 7)
    assert library.fnn_optimizer_step(sgd, byref(o), byref(optimizer_tensors()), None) == 2
    assert library.fnn_last_error().decode() == (
        "`given` must have bits for the 4 hyper-parameters of sgd alone. Received: given=129"
    )


def test_counts_that_went_astray(library: ctypes.CDLL) -> None:
    astray, lists = c_int64(2**62), optimizer_tensors(count=2**62)
    for call, name in (
        (lambda: library.fnn_global_norm(astray, A, COUNT), "count"),
        (lambda: library.fnn_merge_statistics(astray, A, A, COUNT, A, A, COUNT), "parts"),
        (lambda: library.fnn_optimizer_plan_create(0, byref(lists), COUNT), "count"),
    ):
        assert call() == 2
        expected = f"`{name}` must be less than 2^31. Received: {name}={2**62}"
        assert library.fnn_last_error().decode() == expected


def test_counts_of_parts_that_no_number_holds(library: ctypes.CDLL) -> None:
    part, mean, m2 = tensor(3), tensor(3), tensor(3)
    parts = (Tensor * 2)(part, part)
    counts, total = (c_int64 * 2)(2**62, 2**62), c_int64(5)
    arguments = (c_int64(2), parts, parts, counts, byref(mean), byref(m2), byref(total))
    assert library.fnn_merge_statistics(*arguments) == 2
    assert library.fnn_last_error().decode() == (
        "`parts[1].count` must be such that all are together less than 2^63. "
        f"Received: count={2**62}"
    )
    assert (total.value, mean.memory[0]) == (5, 7.0)


def test_codes_may_not_overlap_their_values(library: ctypes.CDLL) -> None:
    values, scales = tensor(12), tensor(1)
    codes = tensor(12, data=values.data + 47, dtype=16)
    for call, arguments, named in (
        (library.fnn_codes_to_float, (codes, scales, values), b"`values` must not overlap `codes`"),
        (library.fnn_codes_from_float, (values, codes, scales), b"`codes` must not overlap"),
    ):
        assert call(*map(byref, arguments)) == 2
        assert library.fnn_last_error().startswith(named)


def test_many_channels_that_are_alike_are_not_looked_at_one_by_one(library: ctypes.CDLL) -> None:
    """That would take years."""
    x, channel = tensor(0, 2**59), c_int64()
    options = BatchNormOptions(ctypes.sizeof(BatchNormOptions), 1, 1e-5, 0.1, 0.1, 0)
    arguments = (byref(x), None, None, byref(options), byref(channel))
    assert library.fnn_batch_norm_unrecoverable(*arguments) == 0
    assert channel.value == -1


def test_negative_counts(library: ctypes.CDLL) -> None:
    assert library.fnn_global_norm(c_int64(-1), A, COUNT) == 2
    assert library.fnn_last_error() == b"`count` must not be negative. Received: count=-1"
