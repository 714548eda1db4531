"""Optimizers with the arguments and the formulas of optax.

All take these, besides optax's own, known when the program is compiled:

weight_decay : float, default 0.0
    Decoupled: ``p <- p - learning_rate * weight_decay * p``, as in `optax.adamw`.
clip_value : float, optional
    Gradients are clipped to ``[-clip_value, clip_value]`` (`optax.clip`).
max_norm : float, optional
    All gradients are scaled down together to this L2 norm (`optax.clip_by_global_norm`).
skip_nonfinite : bool, default False
    Change nothing, and count no update, where a gradient holds an infinity or a NaN.

`learning_rate` is a number, an array, or a schedule: a function of the number of updates made. It
may be traced: changing it compiles nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fusednn.jax.arguments import require_number
from fusednn.jax.optim.transformation import FusedTransformation, Kept, Rate, Recipe
from fusednn.jax.steps import StepOptions


class SgdState(NamedTuple):
    """Of `sgd`: updates made, and the accumulated gradients (None without momentum)."""

    count: Any
    trace: Any


class AdagradState(NamedTuple):
    """Of `adagrad`."""

    count: Any
    sum_of_squares: Any


class RmspropState(NamedTuple):
    """Of `rmsprop`: averages of squares and (centered) of gradients, and the momentum's."""

    count: Any
    nu: Any
    mu: Any
    trace: Any


class AdamState(NamedTuple):
    """Of `adam` and `adamw`: averages of gradients and of their squares, AMSGrad's maximum."""

    count: Any
    mu: Any
    nu: Any
    nu_max: Any


def _options(
    weight_decay: float, clip_value: float | None, max_norm: float | None, skip_nonfinite: bool
) -> StepOptions:
    return {
        "convention": "optax",
        "weight_decay": require_number("weight_decay", weight_decay, 0),
        "clip_value": clip_value,
        "max_norm": max_norm,
        "skip_nonfinite": bool(skip_nonfinite),
    }


def sgd(
    learning_rate: Rate,
    momentum: float | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
    *,
    weight_decay: float = 0.0,
    clip_value: float | None = None,
    max_norm: float | None = None,
    skip_nonfinite: bool = False,
) -> FusedTransformation:
    """Stochastic gradient descent as `optax.sgd`, with momentum (Polyak 1964) or Nesterov's (1983).

    ``b <- momentum * b + g``, ``p <- p - lr * b``; Nesterov: ``p <- p - lr * (g + momentum * b)``.

    Parameters
    ----------
    learning_rate : float, Array or function
    momentum : float in [0, 1], optional
    nesterov : bool, default False
    accumulator_dtype : dtype, optional
        Of the accumulated gradients; by default the parameter's.
    weight_decay, clip_value, max_norm, skip_nonfinite
        As the module says.

    Returns
    -------
    FusedTransformation
        Its state is a `SgdState`.

    Raises
    ------
    TypeError, ValueError
        For a number out of range, or one that is traced and must not be.
    """
    options = _options(weight_decay, clip_value, max_norm, skip_nonfinite)
    kept = {} if momentum is None else {"momentum_buffers": Kept("trace", 0.0, accumulator_dtype)}
    hyperparameters = {"momentum": momentum or 0.0, "nesterov": bool(nesterov and momentum)}
    return FusedTransformation(
        Recipe("sgd", learning_rate, SgdState, kept, hyperparameters, options)
    )


def adagrad(
    learning_rate: Rate,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
    *,
    weight_decay: float = 0.0,
    clip_value: float | None = None,
    max_norm: float | None = None,
    skip_nonfinite: bool = False,
) -> FusedTransformation:
    """AdaGrad (Duchi, Hazan and Singer 2011) as `optax.adagrad`.

    ``h <- h + g^2``, ``p <- p - lr * g / sqrt(h + eps)``, and no change where ``h`` is 0.

    Parameters
    ----------
    learning_rate : float, Array or function
    initial_accumulator_value : float, default 0.1
    eps : float >= 0, default 1e-7
    weight_decay, clip_value, max_norm, skip_nonfinite
        As the module says.

    Returns
    -------
    FusedTransformation
        Its state is an `AdagradState`.

    Raises
    ------
    TypeError, ValueError
        For a number out of range, or one that is traced and must not be.
    """
    options = _options(weight_decay, clip_value, max_norm, skip_nonfinite)
    kept = {"sums": Kept("sum_of_squares", initial_accumulator_value)}
    return FusedTransformation(
        Recipe("adagrad", learning_rate, AdagradState, kept, {"eps": eps}, options)
    )


def rmsprop(
    learning_rate: Rate,
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: float | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    weight_decay: float = 0.0,
    clip_value: float | None = None,
    max_norm: float | None = None,
    skip_nonfinite: bool = False,
) -> FusedTransformation:
    """RMSProp (Hinton 2012), centered (Graves 2013) or with momentum, as `optax.rmsprop`.

    ``v <- decay * v + (1 - decay) * g^2``, ``d = sqrt(v + eps)``, ``p <- p - lr * g / d``; centered
    with ``v - m^2`` in place of ``v``, ``m <- decay * m + (1 - decay) * g``.

    Parameters
    ----------
    learning_rate : float, Array or function
    decay : float in [0, 1], default 0.9
    eps : float >= 0, default 1e-8
    initial_scale : float, default 0.0
        What ``v`` starts with.
    centered : bool, default False
        Where rounding takes ``v - m^2`` below 0 it counts as 0; optax gives NaN.
    momentum : float in [0, 1], optional
    eps_in_sqrt : bool, default True
        Whether `eps` is added to ``v`` or to its root.
    nesterov : bool, default False
        ``momentum * b`` and the new change in place of ``b``, the buffer of momentum.
    bias_correction : bool, default False
        Averages are divided by one minus `decay` to the number of updates.
    weight_decay, clip_value, max_norm, skip_nonfinite
        As the module says.

    Returns
    -------
    FusedTransformation
        Its state is a `RmspropState`.

    Raises
    ------
    TypeError, ValueError
        For a number out of range, or one that is traced and must not be.
    """
    options = _options(weight_decay, clip_value, max_norm, skip_nonfinite)
    kept = {"square_avgs": Kept("nu", initial_scale)}
    if centered:
        kept["grad_avgs"] = Kept("mu")
    if momentum is not None:
        kept["momentum_buffers"] = Kept("trace")
    hyperparameters = {
        "rho": decay,
        "eps": eps,
        "centered": bool(centered),
        "momentum": momentum or 0.0,
        "nesterov": bool(nesterov and momentum),
        "eps_in_sqrt": bool(eps_in_sqrt),
        "bias_correction": bool(bias_correction),
    }
    return FusedTransformation(
        Recipe("rmsprop", learning_rate, RmspropState, kept, hyperparameters, options)
    )


def adam(
    learning_rate: Rate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    amsgrad: bool = False,
    weight_decay: float = 0.0,
    clip_value: float | None = None,
    max_norm: float | None = None,
    skip_nonfinite: bool = False,
) -> FusedTransformation:
    """Adam (Kingma and Ba 2015) as `optax.adam`, AMSGrad (Reddi et al. 2018) as `optax.amsgrad`.

    ``m <- b1 * m + (1 - b1) * g``, ``v <- b2 * v + (1 - b2) * g^2``, each divided by one minus its
    factor to the number of updates; ``p <- p - lr * m / (sqrt(v + eps_root) + eps)``.

    Parameters
    ----------
    learning_rate : float, Array or function
    b1, b2 : float in [0, 1), default 0.9 and 0.999
    eps, eps_root : float >= 0, default 1e-8 and 0
    mu_dtype : dtype, optional
        Of ``m``; by default the parameter's.
    nesterov : bool, default False
        Nadam (Dozat 2016): of the next step's average what is known by now; not with `amsgrad`.
    amsgrad : bool, default False
        The maximum of all corrected ``v`` so far in place of ``v``.
    weight_decay, clip_value, max_norm, skip_nonfinite
        As the module says.

    Returns
    -------
    FusedTransformation
        Its state is an `AdamState`.

    Raises
    ------
    TypeError, ValueError
        For a number out of range, or one that is traced and must not be; for both `nesterov` and
        `amsgrad`.
    """
    if nesterov and amsgrad:
        raise ValueError("`nesterov` must be False where `amsgrad` is true. Received: both")
    options = _options(weight_decay, clip_value, max_norm, skip_nonfinite)
    return _adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov, amsgrad, None, options)


def adamw(
    learning_rate: Rate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: float = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
    clip_value: float | None = None,
    max_norm: float | None = None,
    skip_nonfinite: bool = False,
) -> FusedTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) as `optax.adamw`.

    Parameters
    ----------
    learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov
        As in :func:`adam`.
    weight_decay : float, default 1e-4
    mask : pytree of bool, or function of the parameters that returns one, optional
        Which parameters decay; a prefix of their tree will do. Those that do and those that do not
        are then two calls of the kernel, so that `max_norm` and `skip_nonfinite`, which span all
        of them, are refused.
    clip_value, max_norm, skip_nonfinite
        As the module says.

    Returns
    -------
    FusedTransformation
        Its state is an `AdamState`.

    Raises
    ------
    TypeError, ValueError
        As :func:`adam`.
    """
    options = _options(weight_decay, clip_value, max_norm, skip_nonfinite)
    return _adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov, False, mask, options)


def _adam(
    learning_rate: Rate,
    b1: float,
    b2: float,
    eps: float,
    eps_root: float,
    mu_dtype: Any,
    nesterov: bool,
    amsgrad: bool,
    mask: Any,
    options: StepOptions,
) -> FusedTransformation:
    kept = {
        "exp_avgs": Kept("mu", dtype=None if mu_dtype is None else np.dtype(mu_dtype)),
        "exp_avg_sqs": Kept("nu"),
    }
    if amsgrad:
        kept["max_exp_avg_sqs"] = Kept("nu_max")
    hyperparameters = {"beta1": b1, "beta2": b2, "eps": eps, "eps_root": eps_root}
    if not nesterov:
        hyperparameters["amsgrad"] = bool(amsgrad)
    kind = "nadam" if nesterov else "adam"
    return FusedTransformation(
        Recipe(kind, learning_rate, AdamState, kept, hyperparameters, options, mask)
    )
