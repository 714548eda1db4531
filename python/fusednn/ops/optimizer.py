"""Optimizer steps over lists of arrays, in place, one call for a whole list.

The framework's formula is chosen by ``convention``: ``"torch"`` (torch.optim), ``"keras"``
(Keras 3), ``"tf1"`` (tf.compat.v1.train), ``"optax"``, ``"onnx"`` (the operators of
ai.onnx.preview.training) or ``"mlx"`` (mlx.optimizers); what differs is said at each function, and
what a framework does not have is refused. Steps are numbered from 1, in onnx from 0: its ``T``.
Every step takes these options besides its own hyper-parameters, applied in this order: unscale,
check, clip, maximize, decay, update, average, copy.

convention : str, default "torch"
    Whose formula, and whose defaults for hyper-parameters that are None.
weight_decay : float, default 0.0
    Coefficient of the decay.
decoupled_weight_decay : bool or None
    True: ``p <- p - lr * weight_decay * p`` before the step (AdamW; Loshchilov and Hutter 2019).
    False: the gradient becomes ``g + weight_decay * p`` (L2; ONNX's norm_coefficient). None: as the
    convention does: True in keras, optax and, for Adam, mlx; False otherwise. Without a
    `weight_decay` it says nothing, as in torch.
maximize : bool, default False
    Ascend instead of descend.
grad_scale : float or None
    Gradients are divided by it (mixed precision).
found_inf : array or None
    On a GPU alone: where this number is not 0, nothing is changed, and `step` not counted.
clip_value : float or None
    Gradients are clipped to ``[-clip_value, clip_value]``.
max_norm_each : float or None
    Each array's gradient is scaled down to this L2 norm (Keras' ``clipnorm``).
max_norm : float or None
    All gradients are scaled down together to this L2 norm: one more read of them. torch and mlx
    divide by the norm plus 1e-6, the others by the norm. At most one clip of the three may be set.
skip_nonfinite : bool, default False
    Change nothing if any gradient holds an infinity or a NaN.
ema : list of ndarray or None
    Averages of the parameters, ``ema <- ema_momentum * ema + (1 - ema_momentum) * p``; at the
    first step a copy of `p`.
ema_momentum : float in [0, 1] or None
    None: 0.99. Only with `ema`.
low_precision_copies : list of ndarray or None
    float16 or bfloat16 arrays that receive a rounded copy of the float32 parameters.
    To nearest: they are made anew at each step, so that no error adds up.
stochastic_rounding_seed : int in [0, 2**64) or None
    Parameters, which must all be bfloat16, and bfloat16 states and averages are rounded up or down
    at random, so that the mean of many roundings is the exact value: updates far below bfloat16's
    spacing, 2**-8 of the parameter, add up instead of being lost. The random bits are a function of
    this seed, the step, the place in the list and the element, so that a run can be repeated.
    None: to nearest, ties to even. (torch has no such option.)

An option that needs another which is off is refused: `ema_momentum` without `ema`, and states that
a flag asks for (`grad_avgs` without `centered`, `max_exp_avg_sqs` without `amsgrad`). A number may
be 0 beside what depends on it, as in torch, so that a schedule or a search can take it there:
at ``momentum=0`` `momentum_buffers` stay as they are and `dampening` is not used (but in onnx).

Where the arrays are on a GPU, `lr`, `grad_scale`, `found_inf` and `step` may be arrays of one
float32 there, which the kernel reads when it runs: so a step that was captured into a CUDA graph
can be replayed with other numbers. `step` then holds the number of updates made so far, and the
call adds 1 to it (PyTorch's ``capturable``); one array serves one call at a time.

Parameters are float32, float64, float16 or bfloat16; gradients the same, or any of the three
shorter types; states are float32, bfloat16 or float16 (squares of small gradients vanish in
float16), all float64 for float64 parameters, or where it says so :class:`QuantizedState`, 8 bits.
The arithmetic is float32 (float64 for float64). Parameters, states, averages and copies must be
dense in memory; no two written arrays may overlap.
"""

from typing import Unpack

from fusednn import _core
from fusednn.ops.arrays import Array
from fusednn.ops.step_options import (
    Arrays,
    Scalar,
    States,
    StepOptions,
    Steps,
    check_option_names,
)


def optimizer_step(
    kind: str,
    params: Arrays,
    grads: Arrays,
    states: dict[str, States | None],
    hyperparameters: dict[str, Scalar | bool | None],
    *,
    step: Steps,
    convention: str = "torch",
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool | None = None,
    maximize: bool = False,
    grad_scale: Scalar | None = None,
    found_inf: Array | None = None,
    clip_value: float | None = None,
    max_norm_each: float | None = None,
    max_norm: float | None = None,
    skip_nonfinite: bool = False,
    ema: Arrays | None = None,
    ema_momentum: float | None = None,
    low_precision_copies: Arrays | None = None,
    stochastic_rounding_seed: int | None = None,
    check_only: bool = False,
) -> bool:
    """One step of any optimizer, by name; :func:`sgd_step` and the others are this with arguments.

    Parameters
    ----------
    kind : str
        One of ``_core.optimizer_names()``.
    params, grads : list of ndarray
        Of one length; pairs of one shape.
    states : dict of str to list of ndarray or QuantizedState, or None
        Keyed by the names of ``_core.optimizer_states(kind)``.
    hyperparameters : dict of str to float, bool or None
        Keyed by the names of ``_core.optimizer_hyperparameters(kind)``; None or absent: the
        convention's default; `lr` has none.
    step : int, list of int, or array
        The number of this update, from 1 (onnx: from 0), for all arrays or for each; or see above.
    check_only : bool, default False
        Raise what the step would, but make none: several lists are then stepped all or none.

    Returns
    -------
    bool
        False where `skip_nonfinite` met a gradient that is not finite.

    Raises
    ------
    TypeError
        For an array type or dtype that is not supported, or an unknown hyper-parameter.
    ValueError
        For lists that do not agree, a number out of range, a missing state, or overlapping or
        read-only arrays.
    NotImplementedError
        For a convention or option that this version lacks.
    """
    return _core.optimizer_step(
        kind,
        params,
        grads,
        states,
        step,
        convention,
        hyperparameters,
        weight_decay,
        decoupled_weight_decay,
        maximize,
        grad_scale,
        clip_value,
        max_norm_each,
        max_norm,
        skip_nonfinite,
        ema,
        ema_momentum,
        low_precision_copies,
        stochastic_rounding_seed,
        found_inf,
        check_only,
    )


def sgd_step(
    params: Arrays,
    grads: Arrays,
    momentum_buffers: States | None,
    *,
    step: Steps,
    lr: Scalar,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    **options: Unpack[StepOptions],
) -> bool:
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (1983).

    - torch, tf1, optax, onnx, mlx: ``b <- momentum * b + (1 - dampening) * g``,
      ``p <- p - lr * b``; Nesterov: ``p <- p - lr * (g + momentum * b)``. At the first step torch
      takes ``b = g``, and onnx no dampening
    - keras: ``b <- momentum * b - lr * g``, ``p <- p + b``; Nesterov:
      ``p <- p + momentum * b - lr * g``

    In keras the learning rate is inside the buffer, so that a schedule acts later.

    Parameters
    ----------
    params, grads : list of ndarray
    momentum_buffers : list of ndarray or (signed) QuantizedState, or None
        torch's ``momentum_buffer``, Keras' velocity, optax's trace; None is allowed where
        `momentum` is 0.
    step : int or list of int
        The number of this update, from 1 (onnx: from 0).
    lr : float >= 0
    momentum : float in [0, 1]
    dampening : float
        torch, mlx, which ignores a negative one, and onnx: ``1 - beta`` of its operator Momentum.
    nesterov : bool
        In torch and mlx it needs momentum and no dampening.
    **options
        As the module says.

    Returns
    -------
    bool
        Whether the step was made.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`optimizer_step`.
    """
    check_option_names("sgd_step", options)
    return optimizer_step(
        "sgd",
        params,
        grads,
        {"momentum_buffers": momentum_buffers},
        {"lr": lr, "momentum": momentum, "dampening": dampening, "nesterov": nesterov},
        step=step,
        **options,
    )


def adagrad_step(
    params: Arrays,
    grads: Arrays,
    sums: States,
    *,
    step: Steps,
    lr: Scalar,
    lr_decay: float = 0.0,
    eps: float | None = None,
    **options: Unpack[StepOptions],
) -> bool:
    """AdaGrad (Duchi, Hazan and Singer 2011): ``h <- h + g^2``.

    - torch, onnx, mlx: ``p <- p - lr / (1 + n * lr_decay) * g / (sqrt(h) + eps)``, where `n` counts
      the updates before; eps 1e-10 in torch, 1e-6 in onnx, 1e-8 in mlx; `sums` start at 0
    - keras, optax, tf1: ``p <- p - lr * g / sqrt(h + eps)``, eps 1e-7, in tf1 0; `sums` start at
      0.1. optax leaves `p` where ``h`` is 0

    Parameters
    ----------
    params, grads : list of ndarray
    sums : list of ndarray or of unsigned QuantizedState
        The sums ``h``: torch's ``sum``, Keras' accumulator, optax's ``sum_of_squares``.
    step : int or list of int
        The number of this update, from 1 (onnx: from 0).
    lr : float >= 0
    lr_decay : float >= 0
        torch and onnx: its ``decay_factor``.
    eps : float >= 0 or None
        Not in tf1.
    **options
        As the module says.

    Returns
    -------
    bool
        Whether the step was made.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`optimizer_step`.
    """
    check_option_names("adagrad_step", options)
    return optimizer_step(
        "adagrad",
        params,
        grads,
        {"sums": sums},
        {"lr": lr, "lr_decay": lr_decay, "eps": eps},
        step=step,
        **options,
    )


def rmsprop_step(
    params: Arrays,
    grads: Arrays,
    square_avgs: States,
    *,
    step: Steps,
    lr: Scalar,
    rho: float | None = None,
    eps: float | None = None,
    momentum: float = 0.0,
    momentum_buffers: States | None = None,
    centered: bool = False,
    grad_avgs: Arrays | None = None,
    nesterov: bool = False,
    eps_in_sqrt: bool | None = None,
    bias_correction: bool = False,
    **options: Unpack[StepOptions],
) -> bool:
    """RMSProp (Hinton 2012), centered (Graves 2013) or with momentum.

    ``v <- rho * v + (1 - rho) * g^2``; centered: ``m <- rho * m + (1 - rho) * g`` and ``v - m^2``
    in place of ``v``.

    - torch, mlx: ``d = sqrt(v) + eps``, ``b <- momentum * b + g / d``, ``p <- p - lr * b``;
      rho 0.99, eps 1e-8
    - keras, tf1, optax: ``d = sqrt(v + eps)``, ``b <- momentum * b + lr * g / d``, ``p <- p - b``;
      rho 0.9, eps 1e-7, in tf1 1e-10, in optax 1e-8

    `square_avgs` start at 0, in tf1 at 1. onnx has no RMSProp.

    Parameters
    ----------
    params, grads : list of ndarray
    square_avgs : list of ndarray, or of unsigned QuantizedState where not `centered`
        ``v``: torch's ``square_avg``, Keras' velocity, optax's ``nu``.
    step : int or list of int
        The number of this update, from 1 (onnx: from 0).
    lr : float >= 0
    rho : float in [0, 1] or None
        torch's ``alpha``.
    eps : float >= 0 or None
    momentum : float in [0, 1]
        Not in mlx.
    momentum_buffers : list of ndarray or (signed) QuantizedState, or None
        ``b``, in optax ``-b``: its trace. Needed where `momentum` is not 0.
    centered : bool
        Not in mlx.
    grad_avgs : list of ndarray or None
        ``m``; needed where `centered`. Where rounding takes ``v - m^2`` below 0 it counts as 0;
        torch gives NaN.
    nesterov : bool
        ``momentum * b + lr * g / d`` in place of ``b`` in the last formula. In optax alone.
    eps_in_sqrt : bool or None
        Whether `eps` is added to ``v`` or to its root; only optax leaves the choice.
    bias_correction : bool
        ``v / (1 - rho^step)`` and ``m / (1 - rho^step)`` in place of ``v`` and ``m`` in ``d``. In
        optax alone.
    **options
        As the module says.

    Returns
    -------
    bool
        Whether the step was made.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`optimizer_step`.
    """
    check_option_names("rmsprop_step", options)
    return optimizer_step(
        "rmsprop",
        params,
        grads,
        {
            "square_avgs": square_avgs,
            "momentum_buffers": momentum_buffers,
            "grad_avgs": grad_avgs,
        },
        {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "momentum": momentum,
            "centered": centered,
            "nesterov": nesterov,
            "eps_in_sqrt": eps_in_sqrt,
            "bias_correction": bias_correction,
        },
        step=step,
        **options,
    )
