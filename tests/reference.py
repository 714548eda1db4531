"""What every operation of `fusednn.ops` must compute, in float64 NumPy, and how near it must come.

The functions bear the names of the operations that they check and are written to be read: whole
arrays, no blocks, sums in extended precision. `OPTIMIZERS` of `optimizer_rows.py` has one row per
optimizer; the tests of the kernels, of their bits and of their peers iterate over it: a new
optimizer is one more row, and its formula one function per framework in `optimizer_formulas.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from optimizer_formulas import (
    CONVENTIONS,
    FORMULAS,
    decouples_decay,
    norm_epsilon,
    own_hyperparameters,
    step_number,
)
from optimizer_rows import OPTIMIZERS

Array = np.ndarray

# --- Activation ---------------------------------------------------------------------------------


def leaky_relu(x: Array, negative_slope: float | None = 0.01) -> Array:
    x = np.asarray(x, np.float64)
    return x if negative_slope is None else np.where(x > 0, x, negative_slope * x)


def leaky_relu_backward(grad: Array, x: Array, negative_slope: float | None = 0.01) -> Array:
    grad, x = np.asarray(grad, np.float64), np.asarray(x, np.float64)
    return grad if negative_slope is None else np.where(x > 0, grad, negative_slope * grad)


# --- Batch normalisation ------------------------------------------------------------------------


def _along(vector: Array | None, x: Array, channel_axis: int, missing: float = 0.0) -> Array:
    """A per-channel vector in float64, shaped to broadcast against `x`."""
    shape = [1] * x.ndim
    shape[channel_axis] = x.shape[channel_axis]
    if vector is None:
        return np.full(shape, missing)
    return np.asarray(vector, np.float64).reshape(shape)


def channel_sum(x: Array, channel_axis: int = 1) -> Array:
    axes = tuple(a for a in range(x.ndim) if a != channel_axis % x.ndim)
    return x.sum(axis=axes, dtype=np.longdouble).astype(np.float64)


def batch_norm_statistics(x: Array, channel_axis: int = 1) -> tuple[Array, Array, int]:
    x = np.asarray(x, np.float64)
    channels = x.shape[channel_axis]
    count = x.size // channels if channels else 0
    mean = channel_sum(x, channel_axis) / max(count, 1)
    m2 = channel_sum((x - _along(mean, x, channel_axis)) ** 2, channel_axis)
    return mean, m2, count


def merge_statistics(parts: Sequence[tuple[Array, Array, int]]) -> tuple[Array, Array, int]:
    """Mean, sum of squared deviations and count of the union: Chan's formula for all at once."""
    means, m2s, counts = (np.asarray(column, np.float64) for column in zip(*parts, strict=True))
    count = counts.sum()
    weights = counts[:, None]
    mean = (weights * means).sum(0) / max(count, 1)
    return mean, m2s.sum(0) + (weights * (means - mean) ** 2).sum(0), int(count)


def running_statistics(x, running_mean, running_var, momentum=0.1, unbiased=True, channel_axis=1):
    mean, m2, count = batch_norm_statistics(x, channel_axis)
    old_mean, old_var = np.asarray(running_mean, np.float64), np.asarray(running_var, np.float64)
    if count == 0:
        return old_mean, old_var
    var = m2 / (count - 1 if unbiased else count)
    return (1 - momentum) * old_mean + momentum * mean, (1 - momentum) * old_var + momentum * var


def batch_norm_apply(x, mean, inv_std, gamma=None, beta=None, negative_slope=None, channel_axis=1):
    x = np.asarray(x, np.float64)
    xhat = (x - _along(mean, x, channel_axis)) * _along(inv_std, x, channel_axis)
    z = xhat * _along(gamma, x, channel_axis, missing=1.0) + _along(beta, x, channel_axis)
    return leaky_relu(z, negative_slope)


def batch_norm_forward(x, gamma=None, beta=None, eps=1e-5, negative_slope=None, channel_axis=1):
    mean, m2, count = batch_norm_statistics(x, channel_axis)
    inv_std = 1 / np.sqrt(m2 / max(count, 1) + eps)
    y = batch_norm_apply(x, mean, inv_std, gamma, beta, negative_slope, channel_axis)
    return y, mean, inv_std


def _backward_terms(grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis):
    """The gradient before the activation and xhat."""
    xhat = batch_norm_apply(x, mean, inv_std, channel_axis=channel_axis)
    z = batch_norm_apply(x, mean, inv_std, gamma, beta, None, channel_axis)
    return leaky_relu_backward(grad, z, negative_slope), xhat


def batch_norm_backward_reduce(
    grad, x, gamma, beta, mean, inv_std, negative_slope=None, channel_axis=1
):
    g, xhat = _backward_terms(grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis)
    return channel_sum(g, channel_axis), channel_sum(g * xhat, channel_axis)


def batch_norm_backward_apply(
    grad,
    x,
    gamma,
    beta,
    mean,
    inv_std,
    sum_grad,
    sum_grad_xhat,
    count,
    negative_slope=None,
    channel_axis=1,
):
    g, xhat = _backward_terms(grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis)
    scale = _along(gamma, g, channel_axis, missing=1.0) * _along(inv_std, g, channel_axis)
    mean_grad = _along(sum_grad, g, channel_axis) / max(count, 1)
    mean_grad_xhat = _along(sum_grad_xhat, g, channel_axis) / max(count, 1)
    return scale * (g - mean_grad - xhat * mean_grad_xhat)


def batch_norm_backward(grad, x, gamma, beta, mean, inv_std, negative_slope=None, channel_axis=1):
    saved = (grad, x, gamma, beta, mean, inv_std)
    sum_grad, sum_grad_xhat = batch_norm_backward_reduce(*saved, negative_slope, channel_axis)
    count = x.size // max(x.shape[channel_axis], 1)
    sums = (sum_grad, sum_grad_xhat, count)
    grad_x = batch_norm_backward_apply(*saved, *sums, negative_slope, channel_axis)
    return grad_x, sum_grad_xhat, sum_grad


def batch_norm_backward_from_output(
    grad, y, gamma, beta, inv_std, negative_slope=None, channel_axis=1
):
    """As `batch_norm_backward`: any x and mean with the xhat that y tells give the same results."""
    y = np.asarray(y, np.float64)
    z = y if negative_slope is None else np.where(y > 0, y, y / negative_slope)
    scale = _along(gamma, y, channel_axis, 1.0) * _along(inv_std, y, channel_axis)
    x = (z - _along(beta, y, channel_axis)) / scale
    mean = np.zeros(y.shape[channel_axis])
    return batch_norm_backward(grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis)


def batch_norm_inference(
    x, gamma, beta, running_mean, running_var, eps=1e-5, negative_slope=None, channel_axis=1
):
    inv_std = 1 / np.sqrt(np.asarray(running_var, np.float64) + eps)
    return batch_norm_apply(x, running_mean, inv_std, gamma, beta, negative_slope, channel_axis)


def batch_norm_inference_backward(
    grad, x, gamma, beta, running_mean, running_var, eps=1e-5, negative_slope=None, channel_axis=1
):
    inv_std = 1 / np.sqrt(np.asarray(running_var, np.float64) + eps)
    saved = (grad, x, gamma, beta, running_mean, inv_std)
    sums = batch_norm_backward_reduce(*saved, negative_slope, channel_axis)
    no_sums = (np.zeros_like(inv_std), np.zeros_like(inv_std), 1)
    grad_x = batch_norm_backward_apply(*saved, *no_sums, negative_slope, channel_axis)
    return grad_x, sums[1], sums[0]


# --- Optimizers ---------------------------------------------------------------------------------
# What one update computes is in `optimizer_formulas.py`; here is what goes around it.


def own_cases(kind: str, convention: str) -> list[dict[str, Any]]:
    """The option sets to test an optimizer's formula with, the fullest last."""
    row, has = OPTIMIZERS[kind], own_hyperparameters(kind, convention)
    return [*row.own_options.get(convention, ()), *(o for o in row.options if o.keys() <= has)]


# What every optimizer takes besides its own options. `ema_momentum` stands for keeping an average.
COMMON_OPTIONS: tuple[dict[str, Any], ...] = (
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
    {"weight_decay": 0.1, "decoupled_weight_decay": False},
    {"maximize": True, "weight_decay": 0.1},
    {"grad_scale": 4.0, "max_norm_each": 1.0},
    {"clip_value": 0.5},
    {"max_norm_each": 1.0},
    {"max_norm": 1.5},
    {"ema_momentum": 0.9},
    {
        "grad_scale": 3.0,
        "skip_nonfinite": True,
        "max_norm": 1.0,
        "maximize": True,
        "weight_decay": 0.05,
        "ema_momentum": 0.95,
    },
)


# Every (kind, convention) that exists.
PAIRS = [
    (kind, convention)
    for kind in OPTIMIZERS
    for convention in CONVENTIONS
    if convention in FORMULAS[kind]
]


def optimizer_cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(kind, convention, options) of every case, for `pytest.mark.parametrize`."""
    for kind, convention in PAIRS:
        own = own_cases(kind, convention)
        for options in (*own, *(own[-1] | shared for shared in COMMON_OPTIONS)):
            yield kind, convention, options


def case_id(value: Any) -> str | None:
    """A readable test name for the dictionaries of options."""
    if not isinstance(value, dict):
        return None
    return "-".join(f"{name}={given}" for name, given in value.items()) or "plain"


def initial_states(kind: str, params: Sequence[Array], options: dict[str, Any]) -> dict[str, list]:
    """Fresh states in float64 for `params`, by name, with "ema" where `options` asks for one.

    The average starts as NaN: the first step must copy, not mix.
    """
    row = OPTIMIZERS[kind]
    states = {
        name: [np.full(p.shape, row.initial.get(name, 0.0)) for p in params]
        for name in row.state_names(options)
    }
    if "ema_momentum" in options:
        states["ema"] = [np.full(p.shape, np.nan) for p in params]
    return states


def call_step(ops: Any, kind: str, params: list, grads: list, states: dict, **how: Any) -> bool:
    """Calls ``ops.<kind>_step``, or `ops.optimizer_step` where there is none; lists by name."""
    step = getattr(ops, f"{kind}_step", None)
    if step is None:
        common = inspect.signature(ops.optimizer_step).parameters
        own = {name: how.pop(name) for name in set(how) - set(common)}
        if "ema" in states:
            states, how["ema"] = {n: a for n, a in states.items() if n != "ema"}, states["ema"]
        return ops.optimizer_step(kind, params, grads, states, own, **how)
    names = list(OPTIMIZERS[kind].states)[: OPTIMIZERS[kind].positional]
    named = {name: arrays for name, arrays in states.items() if name not in names}
    return step(params, grads, *(states.get(name) for name in names), **named, **how)


def global_norm(arrays: Sequence[Array]) -> float:
    squares = [(np.asarray(a, np.longdouble) ** 2).sum() for a in arrays]
    return float(np.sqrt(sum(squares, np.longdouble(0))))


def optimizer_step(
    kind: str,
    params: list[Array],
    grads: Sequence[Array],
    states: dict[str, list[Array]],
    *,
    step: int | Sequence[int],
    lr: float,
    convention: str = "torch",
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool | None = None,
    maximize: bool = False,
    grad_scale: float | None = None,
    clip_value: float | None = None,
    max_norm_each: float | None = None,
    max_norm: float | None = None,
    skip_nonfinite: bool = False,
    ema_momentum: float = 0.99,
    **options: Any,
) -> bool:
    """One step in place, in this order: unscale, check, clip, maximize, decay, update, average."""
    decoupled = decoupled_weight_decay
    if decoupled is None:
        decoupled = decouples_decay(kind, convention)
    steps = [step] * len(params) if isinstance(step, int) else list(step)

    def clipped(norm: float, limit: float) -> float:
        return min(1.0, limit / (norm + norm_epsilon(convention))) if norm > 0 else 1.0

    gs = [np.asarray(g, np.float64) / (1.0 if grad_scale is None else grad_scale) for g in grads]
    if skip_nonfinite and not all(np.isfinite(g).all() for g in gs):
        return False
    if clip_value is not None:
        gs = [np.clip(g, -clip_value, clip_value) for g in gs]
    if max_norm_each is not None:
        gs = [g * clipped(global_norm([g]), max_norm_each) for g in gs]
    if max_norm is not None:
        factor = clipped(global_norm(gs), max_norm)
        gs = [g * factor for g in gs]
    for i, (p, g, t) in enumerate(zip(params, gs, steps, strict=True)):
        g = -g if maximize else g
        if decoupled:
            p[...] -= lr * weight_decay * p
        else:
            g = g + weight_decay * p
        own = {name: arrays[i] for name, arrays in states.items()}
        p[...] = FORMULAS[kind][convention](p, g, own, step=t, lr=lr, **options)
        if "ema" in own:
            average = ema_momentum * own["ema"] + (1 - ema_momentum) * p
            own["ema"][...] = p if t == step_number(convention, 1) else average
    return True


# --- How near ------------------------------------------------------------------------------------

DTYPES = tuple(np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16))


def statistics_dtype(dtype: Any) -> np.dtype:
    """The dtype of statistics, affine parameters and optimizer states that go with `dtype`."""
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def ulp(dtype: Any) -> float:
    """The spacing of the numbers above one."""
    return float(ml_dtypes.finfo(dtype).eps)


def assert_same_numbers(actual: Array, expected: Array) -> None:
    """All are equal, or NaN in both, as GPUs' NaNs have other bits; zeros have one sign."""
    assert actual.dtype == expected.dtype
    wide = [np.asarray(a, np.float64) for a in (actual, expected)]
    np.testing.assert_array_equal(*wide)
    np.testing.assert_array_equal(*(np.signbit(a[a == 0]) for a in wide))


def assert_near(actual, expected, *, ulps: float, scale=None, of=None) -> None:
    """|actual - expected| is at most `ulps` times `scale` and one rounding.

    The ulps are those of the arithmetic's dtype: float32 (float64 for float64), or `of`. `scale` is
    the magnitude of the largest term behind each number, by default that of the number itself. The
    rounding is half a unit in the last place of `actual`'s own dtype. NaN must meet NaN, and an
    infinity itself.
    """
    assert actual.shape == np.shape(expected), f"shape {actual.shape}, not {np.shape(expected)}"
    own = ml_dtypes.finfo(actual.dtype)
    got, want = actual.astype(np.float64), np.asarray(expected, np.float64)
    size = np.abs(want) if scale is None else np.maximum(np.abs(want), scale)
    with np.errstate(invalid="ignore", divide="ignore"):
        allowed = ulps * ulp(of or statistics_dtype(actual.dtype)) * size
        allowed = allowed + 0.5 * float(own.eps) * np.abs(want) + float(own.smallest_subnormal)
        error = np.abs(got - want)
        near = (error <= allowed) & np.isfinite(want)
        bad = ~(near | (got == want) | (np.isnan(got) & np.isnan(want)))
        excess = error / allowed
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise AssertionError(
            f"{bad.sum()} of {bad.size} off; at {at}: {got[at]!r}, expected {want[at]!r}, "
            f"{excess[at]:.3g} times the allowed error"
        )
