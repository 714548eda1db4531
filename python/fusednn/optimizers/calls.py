"""The gradients of a step as the lists of its kernel calls, and what no kernel call does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from fusednn.optimizers.options import Array
from fusednn.optimizers.slots import Group, Slots

if TYPE_CHECKING:
    from fusednn.variable import Variable


class Call(NamedTuple):
    """A step of all variables, from gradients that lie in the same arrays every time."""

    grads: tuple[Array | None, ...]
    variables: tuple[Variable, ...]
    #: The gradients as the groups' kernel calls take them: the same lists, for the kernel too.
    lists: list[list[Array]]


def by_group(groups: Sequence[Group], grads: Sequence[Array | None]) -> list[list[Array]]:
    """Return the gradients of each group's variables."""
    lists = [[grads[position] for position in group.positions] for group in groups]
    return cast("list[list[Array]]", lists)


def average_untouched(slots: Slots, groups: Sequence[Group], momentum: float) -> None:
    """Move the averages of the variables that got no gradient, as Keras does."""
    assert slots.averages is not None
    touched = {position for group in groups for position in group.positions}
    for position, variable in enumerate(slots.variables):
        if position not in touched:
            average = slots.averages[position]
            np.multiply(average, momentum, out=average)
            np.add(average, variable.value * (1.0 - momentum), out=average)


def check_gradients(grads: Sequence[Array | None], variables: Sequence[Variable]) -> None:
    """Check what the kernel would, where more than its one call is at stake."""
    for i, (grad, variable) in enumerate(zip(grads, variables, strict=True)):
        if grad is None:
            continue
        if not isinstance(grad, type(variable.value)) or grad.dtype != variable.dtype:
            raise TypeError(
                f"`grads[{i}]` must be an array of the dtype {variable.dtype} of "
                f"`{variable.path}`. Received: {getattr(grad, 'dtype', type(grad).__name__)}"
            )
        if grad.shape != variable.shape:
            raise ValueError(
                f"`grads[{i}]` must have the shape {variable.shape} of `{variable.path}`. "
                f"Received: shape {grad.shape}"
            )
