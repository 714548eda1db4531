"""Leaky ReLU."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from fusednn.jax.arguments import require_array, require_number
from fusednn.jax.calls import call


@partial(jax.jit, static_argnums=1, inline=True)
@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _leaky_relu(x: Any, negative_slope: float) -> Any:
    (y,) = call("leaky_relu", [x], [(x.shape, x.dtype)], [negative_slope])
    return y


def _forward(x: Any, negative_slope: float) -> tuple[Any, Any]:
    return _leaky_relu(x, negative_slope), x


def _backward(negative_slope: float, x: Any, grad: Any) -> tuple[Any]:
    (grad_x,) = call("leaky_relu_backward", [grad, x], [(x.shape, x.dtype)], [negative_slope])
    return (grad_x,)


_leaky_relu.__wrapped__.defvjp(_forward, _backward)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """Return ``y = x`` where ``x > 0``, else ``negative_slope * x``.

    As `jax.nn.leaky_relu`, in one call of a kernel, forward and backward. XLA fuses its own with
    what comes before it: alone this one is for large arrays; after BatchNorm, :func:`batch_norm`
    has it for nothing.

    Parameters
    ----------
    x : Array
        float32, float64, float16 or bfloat16, of any shape.
    negative_slope : float, default 0.01
        Known when the program is compiled.

    Returns
    -------
    Array
        The shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        For another dtype, or a slope that is traced or not finite.
    """
    return _leaky_relu(require_array("x", x), require_number("negative_slope", negative_slope))
