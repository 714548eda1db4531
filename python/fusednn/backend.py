"""The few functions of ``keras.backend`` that programs for Keras 2 and 3 call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn.layers import naming
from fusednn.variable import Variable

__all__ = ["clear_session", "epsilon", "floatx", "get_value", "set_value"]

Array = np.ndarray[Any, np.dtype[Any]]


def get_value(x: Variable | ArrayLike) -> Any:
    """Return a copy of a variable's value, or a number or array as it is.

    ``get_value(model.optimizer.learning_rate)`` is the number itself.
    """
    return x.numpy() if isinstance(x, Variable) else x


def set_value(x: Variable, value: ArrayLike) -> None:
    """Copy `value` into a variable.

    Raises
    ------
    TypeError
        `x` is no variable: an optimizer's rate is a number here, set by
        ``optimizer.learning_rate = value``.
    """
    if not isinstance(x, Variable):
        raise TypeError(
            "`x` must be a Variable; set a learning rate by `optimizer.learning_rate = value`. "
            f"Received: x={x!r}"
        )
    x.assign(value)


def clear_session() -> None:
    """Start the automatic names of layers and models again: ``dense``, ``dense_1``, ..."""
    naming.forget_names()


def floatx() -> str:
    """Return the dtype of layers that are given none, "float32"."""
    return "float32"


def epsilon() -> float:
    """Return what keeps logarithms and divisions finite, 1e-7."""
    return 1e-7
