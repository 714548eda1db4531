"""BatchNorm with leaky ReLU in one call (Ioffe and Szegedy 2015).

The activation is part of the kernel: ``negative_slope=None`` is none, 0 is ReLU.
``channel_axis=1`` is NCHW and NC, ``channel_axis=-1`` NHWC.
"""

import numpy as np

from fusednn import _core
from fusednn.ops.arrays import Array, Out, full_output, given_back, results_in

FORWARD_RESULTS = ("y", "mean", "inv_std")
BACKWARD_RESULTS = ("grad_x", "grad_gamma", "grad_beta")


def batch_norm_forward(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    unbiased_running_var: bool = True,
    negative_slope: float | None = None,
    channel_axis: int = 1,
    out: Out = None,
) -> tuple[Array, Array, Array]:
    """Normalise with the batch's statistics, scale, shift and activate.

    ``y = leaky_relu((x - mean) * gamma * inv_std + beta)``, ``inv_std = 1 / sqrt(var + eps)``, with
    the biased variance ``var`` of each channel.

    Parameters
    ----------
    x : ndarray
        Any rank of at least 1 with the channels on `channel_axis`.
    gamma, beta : ndarray (channels,) or None
        Scale and shift; None is 1 and 0.
    running_mean, running_var : ndarray (channels,), both or neither
        Updated in place: ``running <- (1 - momentum) * running + momentum * batch``.
    momentum : float in [0, 1], default 0.1
        PyTorch's meaning; Keras' ``momentum`` is one minus it.
    eps : float, default 1e-5
        Added to the variance, in its unit. Keras' default is 1e-3.
    unbiased_running_var : bool, default True
        Whether `running_var` takes the variance times n / (n - 1), as PyTorch does; Keras 3 takes
        it as it is.
    negative_slope : float or None
        Slope of the leaky ReLU.
    channel_axis : int, default 1
    out : ndarray or tuple (y, mean, inv_std), optional
        Where to put the results; `y` may be `x`.

    Returns
    -------
    y : ndarray
        The shape and dtype of `x`.
    mean, inv_std : ndarray (channels,)
        What the backward pass needs. A channel without elements has mean 0 and variance 0.

    Raises
    ------
    TypeError
        For an array type or dtype that is not supported.
    ValueError
        For a wrong shape, a number out of range, a read-only or partly overlapping output, or one
        element per channel where an unbiased running variance is asked for. PyTorch refuses one
        element per channel always.

    Notes
    -----
    The variance keeps a relative accuracy of 1e-5 in float32 where the mean is 1e4 standard
    deviations: leaves of some thousand elements are reduced about their own mean, then merged in
    double precision by the formula of Chan, Golub and LeVeque (1979). Without elements the
    running statistics stay as they are.
    """
    y, mean, inv_std = results_in(out, FORWARD_RESULTS, "x", x, channel_axis)
    _core.batch_norm_forward(
        x,
        gamma,
        beta,
        running_mean,
        running_var,
        momentum,
        eps,
        unbiased_running_var,
        negative_slope,
        channel_axis,
        y,
        mean,
        inv_std,
    )
    if isinstance(x, np.ndarray):
        return y, mean, inv_std
    y, mean, inv_std = given_back(x, out, y, mean, inv_std)
    return y, mean, inv_std


def batch_norm_backward(
    grad: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inv_std: Array,
    *,
    negative_slope: float | None = None,
    channel_axis: int = 1,
    out: Out = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_norm_forward`.

    With ``g`` the gradient after the activation's derivative, ``xhat = (x - mean) * inv_std`` and n
    elements per channel:

    - ``grad_x = gamma * inv_std * (g - sum(g) / n - xhat * sum(g * xhat) / n)``
    - ``grad_gamma = sum(g * xhat)``, ``grad_beta = sum(g)``

    Parameters
    ----------
    grad, x : ndarray
        The gradient of `y` and the input, of one shape and dtype.
    gamma, beta : ndarray (channels,) or None
        As in the forward pass.
    mean, inv_std : ndarray (channels,)
        As the forward pass returned them.
    negative_slope, channel_axis
        As in the forward pass.
    out : ndarray or tuple (grad_x, grad_gamma, grad_beta), optional
        Where to put the results; `grad_x` may be `grad` or `x`.

    Returns
    -------
    grad_x : ndarray
        The shape and dtype of `x`.
    grad_gamma, grad_beta : ndarray (channels,)
        Computed also where `gamma` and `beta` are None.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_forward`.
    """
    grad_x, grad_gamma, grad_beta = results_in(out, BACKWARD_RESULTS, "x", x, channel_axis)
    _core.batch_norm_backward(
        grad,
        x,
        gamma,
        beta,
        mean,
        inv_std,
        negative_slope,
        channel_axis,
        grad_x,
        grad_gamma,
        grad_beta,
    )
    if isinstance(x, np.ndarray):
        return grad_x, grad_gamma, grad_beta
    grad_x, grad_gamma, grad_beta = given_back(x, out, grad_x, grad_gamma, grad_beta)
    return grad_x, grad_gamma, grad_beta


def batch_norm_backward_from_output(
    grad: Array,
    y: Array,
    gamma: Array | None,
    beta: Array | None,
    inv_std: Array,
    *,
    negative_slope: float | None = None,
    channel_axis: int = 1,
    out: Out = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_norm_forward` from its output, where `x` was overwritten by `y`.

    ``z = y`` where ``y > 0``, else ``y / negative_slope``; ``xhat = (z - beta) / gamma``; then as
    :func:`batch_norm_backward`. One activation less to keep (Bulò, Porzi and Kontschieder 2018);
    unlike their InPlace-ABN, `gamma` keeps its sign and no epsilon is added to it, so that ordinary
    checkpoints mean the same.

    Parameters
    ----------
    grad, y : ndarray
        The gradient of `y` and `y` itself, of one shape and dtype.
    gamma, beta, inv_std, negative_slope, channel_axis
        As in :func:`batch_norm_backward`; `negative_slope` must be positive (or None). As `y` is
        rounded, ``xhat`` is wrong by up to ``eps / 2 * abs(beta / gamma)``, eps being that of the
        dtype of `y`: ``abs(beta / gamma)`` may be ``1 / sqrt(eps)`` (2896 in float32, 32 in
        float16, 11 in bfloat16, 6.7e7 in float64), so that half of the digits are right, and
        `gamma` times `negative_slope` must be far from the smallest numbers.
    out : ndarray or tuple (grad_x, grad_gamma, grad_beta), optional
        Where to put the results; `grad_x` may be `grad` or `y`.

    Returns
    -------
    grad_x, grad_gamma, grad_beta
        As :func:`batch_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_backward`, for ``negative_slope <= 0``, and for a `gamma` that is
        too small (not on a GPU, where values are not looked at).
    """
    grad_x, grad_gamma, grad_beta = results_in(out, BACKWARD_RESULTS, "y", y, channel_axis)
    _core.batch_norm_backward_from_output(
        grad, y, gamma, beta, inv_std, negative_slope, channel_axis, grad_x, grad_gamma, grad_beta
    )
    if isinstance(y, np.ndarray):
        return grad_x, grad_gamma, grad_beta
    grad_x, grad_gamma, grad_beta = given_back(y, out, grad_x, grad_gamma, grad_beta)
    return grad_x, grad_gamma, grad_beta


def batch_norm_inference(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Normalise with given statistics of the population, scale, shift and activate.

    ``y = leaky_relu((x - running_mean) * gamma / sqrt(running_var + eps) + beta)``.

    Parameters
    ----------
    x, gamma, beta, eps, negative_slope, channel_axis
        As in :func:`batch_norm_forward`.
    running_mean, running_var : ndarray (channels,)
        Read only; `running_var` must not be negative.
    out : ndarray, optional
        Where to put the result; may be `x`.

    Returns
    -------
    ndarray
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_forward`, and for a negative variance.
    """
    y = full_output("x", x) if out is None else out
    _core.batch_norm_inference(
        x, gamma, beta, running_mean, running_var, eps, negative_slope, channel_axis, y
    )
    return y if isinstance(x, np.ndarray) else given_back(x, out, y)[0]


def batch_norm_inference_backward(
    grad: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    eps: float = 1e-5,
    negative_slope: float | None = None,
    channel_axis: int = 1,
    out: Out = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_norm_inference`, for frozen layers.

    The statistics do not depend on `x`: ``grad_x = gamma * inv_std * g``; `grad_gamma` and
    `grad_beta` as in :func:`batch_norm_backward`, with ``xhat`` of the running statistics.

    Parameters
    ----------
    grad, x : ndarray
        The gradient of `y` and the input, of one shape and dtype.
    gamma, beta, running_mean, running_var, eps, negative_slope, channel_axis
        As in :func:`batch_norm_inference`.
    out : ndarray or tuple (grad_x, grad_gamma, grad_beta), optional
        Where to put the results; `grad_x` may be `grad` or `x`.

    Returns
    -------
    grad_x, grad_gamma, grad_beta
        As :func:`batch_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_inference`.
    """
    grad_x, grad_gamma, grad_beta = results_in(out, BACKWARD_RESULTS, "x", x, channel_axis)
    _core.batch_norm_inference_backward(
        grad,
        x,
        gamma,
        beta,
        running_mean,
        running_var,
        eps,
        negative_slope,
        channel_axis,
        grad_x,
        grad_gamma,
        grad_beta,
    )
    if isinstance(x, np.ndarray):
        return grad_x, grad_gamma, grad_beta
    grad_x, grad_gamma, grad_beta = given_back(x, out, grad_x, grad_gamma, grad_beta)
    return grad_x, grad_gamma, grad_beta
