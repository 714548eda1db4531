"""The few functions of ``keras.backend`` that programs for Keras 2 and 3 call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn.layers import naming
from fusednn.optimizers.learning_rate import RateNumber
from fusednn.optimizers.state_variables import StateVariable
from fusednn.variable import Variable

__all__ = ["clear_session", "epsilon", "floatx", "get_value", "set_value"]

Array = np.ndarray[Any, np.dtype[Any]]


def get_value(x: Any) -> Any:
    """Return a copy of the value of a variable or an optimizer's rate; a number or array as it is.

    Variables are those of layers, of metrics, and of `optimizer.variables`.
    """
    if isinstance(x, float):
        return float(x)
    return x.numpy() if isinstance(x, (Variable, StateVariable)) else x


def set_value(x: Any, value: ArrayLike) -> None:
    """Copy `value` into a variable, or set an optimizer's rate.

    ``set_value(model.optimizer.learning_rate, 0.1)`` is ``model.optimizer.learning_rate = 0.1``.

    Raises
    ------
    TypeError
        `x` is none of these, or `value` is no number.
    ValueError
        `value` has another shape, or is no rate.
    """
    if not isinstance(x, (RateNumber, StateVariable, Variable)):
        raise TypeError(
            f"`x` must be a variable or an optimizer's `learning_rate`. Received: x={x!r}"
        )
    if isinstance(x, RateNumber):
        array = np.asarray(value)
        if array.shape != () or array.dtype.kind not in "iuf":
            raise TypeError(f"`value` must be a number for a rate. Received: value={value!r}")
        x.assign(float(array))
    else:
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
