"""BatchNorm in stages, for statistics that span several arrays or processes.

Synchronised BatchNorm: each rank calls :func:`batch_norm_statistics`, all gather the triples,
:func:`merge_statistics` makes them one, :func:`batch_norm_apply` normalises; backwards, the sums of
:func:`batch_norm_backward_reduce` are added over the ranks before
:func:`batch_norm_backward_apply`. Population statistics of a training set: merge over its batches.
"""

from collections.abc import Sequence

import numpy as np

from fusednn import _core
from fusednn.ops.arrays import Array, channel_outputs, full_output, given_back


def batch_norm_statistics(x: Array, *, channel_axis: int = 1) -> tuple[Array, Array, int]:
    """Mean, sum of squared deviations and number of elements of each channel.

    Parameters
    ----------
    x : ndarray
        Any rank of at least 1 with the channels on `channel_axis`.
    channel_axis : int, default 1

    Returns
    -------
    mean, m2 : ndarray (channels,)
        float32, or float64 for float64. ``m2 / count`` is the biased variance. 0 without elements.
    count : int
        Elements per channel.

    Raises
    ------
    TypeError, ValueError
        For an array type, dtype or axis that is not supported.
    """
    mean, m2 = channel_outputs("x", x, channel_axis)
    count = _core.batch_norm_statistics(x, channel_axis, mean, m2)
    if not isinstance(x, np.ndarray):
        mean, m2 = given_back(x, None, mean, m2)
    return mean, m2, count


def merge_statistics(parts: Sequence[tuple[Array, Array, int]]) -> tuple[Array, Array, int]:
    """Statistics of several parts together (Chan, Golub and LeVeque 1979), in the order given.

    Parameters
    ----------
    parts : sequence of (mean, m2, count)
        As :func:`batch_norm_statistics` returns them, of one dtype and length. Counts may differ
        and be 0.

    Returns
    -------
    mean, m2, count
        Merged in double precision, in the dtype of the parts.

    Raises
    ------
    TypeError, ValueError
        For an empty list, arrays that do not agree, or a negative `m2` or count.
    """
    if not isinstance(parts, Sequence):
        raise TypeError(
            f"`parts` must be a list of (mean, m2, count). Received: type={type(parts).__name__}"
        )
    for i, part in enumerate(parts):
        if not isinstance(part, tuple | list) or len(part) != 3:
            raise TypeError(f"`parts[{i}]` must be (mean, m2, count). Received: {part!r}")
    if not parts:
        raise ValueError(
            "`parts` must hold at least one (mean, m2, count). Received: an empty list"
        )
    mean, m2 = (full_output("parts[0].mean", parts[0][0]) for _ in range(2))
    count = _core.merge_statistics(parts, mean, m2)
    if not isinstance(parts[0][0], np.ndarray):
        mean, m2 = given_back(parts[0][0], None, mean, m2)
    return mean, m2, count


def batch_norm_apply(
    x: Array,
    mean: Array,
    inv_std: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    negative_slope: float | None = None,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Normalise with given statistics: ``y = leaky_relu((x - mean) * gamma * inv_std + beta)``.

    Parameters
    ----------
    x : ndarray
    mean, inv_std : ndarray (channels,)
        ``inv_std = 1 / sqrt(m2 / count + eps)``.
    gamma, beta, negative_slope, channel_axis
        As in :func:`batch_norm_forward`, whose `y` this is, bit for bit, for the same `mean` and
        `inv_std`.
    out : ndarray, optional
        Where to put the result; may be `x`.

    Returns
    -------
    ndarray
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_forward`.
    """
    y = full_output("x", x) if out is None else out
    _core.batch_norm_apply(x, mean, inv_std, gamma, beta, negative_slope, channel_axis, y)
    return y if isinstance(x, np.ndarray) else given_back(x, out, y)[0]


def batch_norm_backward_reduce(
    grad: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inv_std: Array,
    *,
    negative_slope: float | None = None,
    channel_axis: int = 1,
) -> tuple[Array, Array]:
    """Reduce this part for the backward pass: ``sum(g)`` and ``sum(g * xhat)`` of each channel.

    They are this part's `grad_beta` and `grad_gamma`; added over all parts they go to
    :func:`batch_norm_backward_apply`.

    Parameters
    ----------
    grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis
        As in :func:`batch_norm_backward`.

    Returns
    -------
    sum_grad, sum_grad_xhat : ndarray (channels,)

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_backward`.
    """
    sum_grad, sum_grad_xhat = channel_outputs("x", x, channel_axis)
    _core.batch_norm_backward_reduce(
        grad,
        x,
        gamma,
        beta,
        mean,
        inv_std,
        negative_slope,
        channel_axis,
        sum_grad,
        sum_grad_xhat,
    )
    if not isinstance(x, np.ndarray):
        sum_grad, sum_grad_xhat = given_back(x, None, sum_grad, sum_grad_xhat)
    return sum_grad, sum_grad_xhat


def batch_norm_backward_apply(
    grad: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inv_std: Array,
    sum_grad: Array,
    sum_grad_xhat: Array,
    count: int,
    *,
    negative_slope: float | None = None,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient of `x` from sums over all parts.

    ``grad_x = gamma * inv_std * (g - sum_grad / count - xhat * sum_grad_xhat / count)``.

    Parameters
    ----------
    grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis
        As in :func:`batch_norm_backward`.
    sum_grad, sum_grad_xhat : ndarray (channels,)
        Sums of :func:`batch_norm_backward_reduce` over all parts.
    count : int
        Elements per channel over all parts.
    out : ndarray, optional
        Where to put the result; may be `grad` or `x`.

    Returns
    -------
    ndarray
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_backward`, and for a `count` below the elements per channel of `x`.
    """
    grad_x = full_output("x", x) if out is None else out
    _core.batch_norm_backward_apply(
        grad,
        x,
        gamma,
        beta,
        mean,
        inv_std,
        sum_grad,
        sum_grad_xhat,
        count,
        negative_slope,
        channel_axis,
        grad_x,
    )
    return grad_x if isinstance(x, np.ndarray) else given_back(x, out, grad_x)[0]
