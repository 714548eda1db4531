"""What regularizers add to the loss and to gradients."""

from __future__ import annotations

from collections.abc import Iterable

from fusednn.models.data import Array
from fusednn.regularizers import Regularizer
from fusednn.variable import Variable


class Penalties:
    """The penalties on those of `variables` that have a regularizer."""

    def __init__(self, variables: Iterable[Variable]) -> None:
        self._parts: list[tuple[Regularizer, Variable, Array]] = [
            (variable.regularizer, variable, variable.device.empty(variable.shape, variable.dtype))
            for variable in variables
            if variable.regularizer is not None
        ]

    def value(self) -> float:
        """Return the sum of all penalties."""
        total = 0.0
        for part, variable, work in self._parts:
            with variable.device.working():
                total += part.penalty(variable.value, work)
        return total

    def add_gradients(self) -> None:
        """Add the penalties' gradients to those of the variables."""
        for part, variable, work in self._parts:
            part.add_gradient(variable.value, variable.grad, 1.0, work)
