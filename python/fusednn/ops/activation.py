"""Leaky ReLU (Maas, Hannun and Ng 2013), alone; with BatchNorm it is part of those kernels."""

import numpy as np

from fusednn import _core
from fusednn.ops.arrays import Array, full_output, given_back


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """Leaky ReLU: ``y = x`` where ``x > 0``, else ``negative_slope * x``.

    Parameters
    ----------
    x : ndarray, any shape
        float32, float64, float16 or bfloat16.
    negative_slope : float, default 0.01
        Any finite number; 0 is ReLU, 1 the identity. PyTorch's default is the same; Keras' layer
        has 0.3 and its function 0.2.
    out : ndarray, optional
        Where to put the result; may be `x`.

    Returns
    -------
    ndarray
        The shape and dtype of `x`.

    Raises
    ------
    TypeError
        For an array type or dtype that is not supported.
    ValueError
        For a slope that is not finite, or an `out` of another shape, read-only, or partly
        overlapping `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn import ops
    >>> ops.leaky_relu(np.array([-1.0, 2.0]), 0.1)
    array([-0.1,  2. ])
    """
    y = full_output("x", x) if out is None else out
    _core.leaky_relu(x, negative_slope, y)
    return y if isinstance(x, np.ndarray) else given_back(x, out, y)[0]


def leaky_relu_backward(
    grad: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Gradient of :func:`leaky_relu`: ``grad`` where ``x > 0``, else ``negative_slope * grad``.

    At 0 the derivative is `negative_slope`, as in PyTorch.

    Parameters
    ----------
    grad, x : ndarray
        The gradient of the output and the input, of one shape and dtype. With ``negative_slope >
        0`` the output may stand for the input: they have one sign.
    negative_slope : float, default 0.01
    out : ndarray, optional
        Where to put the result; may be `grad` or `x`.

    Returns
    -------
    ndarray
        The gradient of `x`.

    Raises
    ------
    TypeError, ValueError
        As :func:`leaky_relu`.
    """
    grad_x = full_output("x", x) if out is None else out
    _core.leaky_relu_backward(grad, x, negative_slope, grad_x)
    return grad_x if isinstance(x, np.ndarray) else given_back(x, out, grad_x)[0]
