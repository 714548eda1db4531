"""Valid calls of every operation, and how one that was spoilt must be refused."""

from __future__ import annotations

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


def case(call, error, message, **spoilt):
    """`call` with `spoilt` arguments (functions are given the valid arrays) raises `error`."""
    return pytest.param(call, spoilt, error, message, id=f"{call}-{'-'.join(spoilt)}")


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def read_only(x):
    view = x[...]
    view.flags.writeable = False
    return view


def arrays_of(a):
    for value in vars(a).values():
        yield from value if isinstance(value, list) else [value]


def check_refusal(call, spoilt, error, message):
    """An error that says what was received, after which everything is as it was."""
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
