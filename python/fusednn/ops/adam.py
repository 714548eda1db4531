"""Steps of Adam, Adamax and Nadam. Options of all steps are in `ops.optimizer`."""

from collections.abc import Sequence
from typing import Unpack

from fusednn.ops.optimizer import optimizer_step
from fusednn.ops.step_options import (
    Arrays,
    Scalar,
    States,
    StepOptions,
    Steps,
    check_option_names,
)


def adam_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: States,
    exp_avg_sqs: States,
    *,
    step: Steps,
    lr: Scalar,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float | None = None,
    amsgrad: bool = False,
    max_exp_avg_sqs: Arrays | None = None,
    eps_root: float = 0.0,
    bias_correction: bool | None = None,
    norm_coefficient_post: float = 0.0,
    **options: Unpack[StepOptions],
) -> bool:
    """Adam (Kingma and Ba 2015), AMSGrad (Reddi et al. 2018), AdamW.

    - ``m <- beta1 * m + (1 - beta1) * g``, ``v <- beta2 * v + (1 - beta2) * g^2``
    - torch, optax, mlx: ``p <- p - (lr / c1) * m / (sqrt(v / c2 + eps_root) + eps)``, eps 1e-8
    - keras, tf1, onnx: ``p <- p - (lr * sqrt(c2) / c1) * m / (sqrt(v) + eps)``, eps 1e-7 in keras,
      1e-8 in tf1, 1e-6 in onnx

    with ``c1 = 1 - beta1^step``, ``c2 = 1 - beta2^step``, both 1 in onnx at step 0 and in mlx
    without `bias_correction`. AMSGrad takes the maximum of all ``v`` so far, in optax of all
    ``v / c2``; AdamW is ``decoupled_weight_decay=True``.

    Parameters
    ----------
    params, grads : list of ndarray
    exp_avgs, exp_avg_sqs : list of ndarray or QuantizedState
        ``m`` and ``v``; as 8-bit states signed and unsigned. With `amsgrad`, ``v`` must be arrays.
    step : int or list of int
        The number of this update, from 1 (onnx: from 0).
    lr : float >= 0
    beta1, beta2 : float in [0, 1)
    eps : float >= 0 or None
    amsgrad : bool
        torch, keras and optax.
    max_exp_avg_sqs : list of ndarray or None
        Needed where `amsgrad`.
    eps_root : float >= 0
        optax only.
    bias_correction : bool or None
        Off by default in mlx; always on in the others.
    norm_coefficient_post : float >= 0
        onnx only: after the update, ``p <- (1 - norm_coefficient_post) * p``.
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
    check_option_names("adam_step", options)
    return optimizer_step(
        "adam",
        params,
        grads,
        {
            "exp_avgs": exp_avgs,
            "exp_avg_sqs": exp_avg_sqs,
            "max_exp_avg_sqs": max_exp_avg_sqs,
        },
        {
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "amsgrad": amsgrad,
            "eps_root": eps_root,
            "bias_correction": bias_correction,
            "norm_coefficient_post": norm_coefficient_post,
        },
        step=step,
        **options,
    )


def adamax_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: States,
    exp_infs: Arrays,
    *,
    step: int | Sequence[int],
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float | None = None,
    **options: Unpack[StepOptions],
) -> bool:
    """Adamax: Adam with the infinity norm (Kingma and Ba 2015, section 7).

    - ``m <- beta1 * m + (1 - beta1) * g``
    - keras, mlx: ``u <- max(beta2 * u, abs(g))``, ``p <- p - (lr / c1) * m / (u + eps)``
    - torch, optax: ``u <- max(beta2 * u, abs(g) + eps)``, ``p <- p - (lr / c1) * m / u``

    with ``c1 = 1 - beta1^step``, 1 in mlx; eps 1e-7 in keras, 1e-8 in the others.

    Parameters
    ----------
    params, grads : list of ndarray
    exp_avgs : list of ndarray or QuantizedState
        ``m``; as 8-bit states signed.
    exp_infs : list of ndarray
        ``u``.
    step : int or list of int
        The number of this update, from 1.
    lr : float >= 0
    beta1, beta2 : float in [0, 1)
    eps : float >= 0 or None
    **options
        As of the other steps; see `optimizer_step`.

    Returns
    -------
    bool
        Whether the step was made.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`optimizer_step`. tf1 and onnx have no Adamax.
    """
    check_option_names("adamax_step", options)
    return optimizer_step(
        "adamax",
        params,
        grads,
        {"exp_avgs": exp_avgs, "exp_infs": exp_infs},
        {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps},
        step=step,
        **options,
    )


def nadam_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: States,
    exp_avg_sqs: States,
    *,
    step: int | Sequence[int],
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float | None = None,
    momentum_decay: float | None = None,
    eps_root: float = 0.0,
    **options: Unpack[StepOptions],
) -> bool:
    """Nadam: Adam with Nesterov's momentum (Dozat 2016).

    - ``m <- beta1 * m + (1 - beta1) * g``, ``v <- beta2 * v + (1 - beta2) * g^2``
    - ``d = sqrt(v / (1 - beta2^step) + eps_root) + eps``
    - ``p <- p - lr * (mu' * m / (1 - P * mu') + (1 - mu) * g / (1 - P)) / d``

    torch, keras: ``mu = mu_step`` and ``mu' = mu_(step + 1)`` of the sequence
    ``mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)``, P is the product of the first `step`.
    optax: ``mu = mu' = beta1``, ``P = beta1^step``. eps is 1e-7 in keras, 1e-8 in the others.

    Parameters
    ----------
    params, grads : list of ndarray
    exp_avgs, exp_avg_sqs : list of ndarray or QuantizedState
        ``m`` and ``v``; as 8-bit states signed and unsigned.
    step : int or list of int
        The number of this update, from 1. P is found from it: it is no state, as in torch and
        keras, which keep it from step to step.
    lr : float >= 0
    beta1, beta2 : float in [0, 1)
    eps : float >= 0 or None
    momentum_decay : float >= 0 or None
        torch only, 0.004 by default; keras is 1.
    eps_root : float >= 0
        optax only.
    **options
        As of the other steps; see `optimizer_step`.

    Returns
    -------
    bool
        Whether the step was made.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`optimizer_step`. tf1, onnx and mlx have no Nadam.
    """
    check_option_names("nadam_step", options)
    return optimizer_step(
        "nadam",
        params,
        grads,
        {"exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs},
        {
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "momentum_decay": momentum_decay,
            "eps_root": eps_root,
        },
        step=step,
        **options,
    )
