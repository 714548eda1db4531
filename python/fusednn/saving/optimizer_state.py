"""An optimizer's numbers as Keras writes them: its variables, in order."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusednn.optimizers import Nadam, Optimizer
from fusednn.optimizers.state_variables import StateVariable
from fusednn.saving.keras_config import rate_for_keras
from fusednn.variable import Variable

Array = np.ndarray[Any, np.dtype[Any]]


def written_state(optimizer: Optimizer, variables: Sequence[Variable]) -> list[tuple[str, Array]]:
    """Return the arrays to write, with the paths that Keras has for them.

    Of an optimizer that has not stepped yet they are what it would start from for `variables`:
    Keras refuses files that lack them.

    Raises
    ------
    NotImplementedError
        States are in 8 bits, for which Keras has no form.
    """
    if optimizer.quantized_states:
        raise NotImplementedError(
            "An optimizer with `quantized_states` cannot be written: Keras has no such states. "
            "Save the model with `include_optimizer=False`."
        )
    if not optimizer.built:
        optimizer = copy.copy(optimizer)
        optimizer.build(variables)
    arrays = [(variable.path, variable.numpy()) for variable in optimizer.variables]
    instead = rate_for_keras(optimizer)
    if instead is not None:
        del arrays[1 : 2 - optimizer.follows_schedule]
    if isinstance(instead, float):  # a number has a variable, a schedule has none
        arrays.insert(1, (f"{optimizer.name}/learning_rate", np.asarray(instead, np.float32)))
    if isinstance(optimizer, Nadam):
        # Of the number of steps; Keras keeps it as a variable.
        path = f"{optimizer.name}/variable"
        arrays.append((path, np.asarray(_product(optimizer), np.float32)))
    return arrays


def _product(optimizer: Nadam) -> float:
    steps = np.arange(1, min(optimizer.iterations, 2000) + 1)
    factors = float(np.prod(1 - 0.5 * 0.96**steps))
    return math.pow(optimizer.beta_1, optimizer.iterations) * factors


def restore_state(
    optimizer: Optimizer,
    variables: Sequence[Variable],
    count: int,
    read: Callable[[int, tuple[int, ...] | None], Array],
) -> None:
    """Build the optimizer for `variables` and set it to what was written.

    Parameters
    ----------
    optimizer
        New.
    variables
        The model's trainable variables.
    count
        How many arrays were written.
    read
        Returns the array of a number, of a given shape, or raises ValueError.

    Raises
    ------
    ValueError
        There is another number of arrays, or one of another shape.

    Notes
    -----
    There is a learning rate where Keras has no schedule. Keras 2 wrote none, nor Nadam's product;
    and for SGD without momentum a velocity all the same.
    """
    has_rate = count > 1 and read(1, None).shape == ()
    states: list[StateVariable] = []
    if count > 1 + (has_rate and not optimizer.follows_schedule):
        optimizer.build(variables)
        states = optimizer.variables[2 - optimizer.follows_schedule :]
        if has_rate and states and states[0].shape == ():  # or it is the state of a number
            has_rate = count > 1 + len(states)
    heads = optimizer.variables[: 1 + (has_rate and not optimizer.follows_schedule)]
    expected = 1 + has_rate + len(states)
    unused = len(variables) if not states else isinstance(optimizer, Nadam)
    if count not in (expected, expected + unused):
        raise ValueError(
            f"The file must hold {expected} arrays for the optimizer. Received: {count}"
        )
    targets = [*heads, *states]
    first = 1 + has_rate
    places = [*range(len(heads)), *range(first, first + len(states))]
    values = [read(i, target.shape) for i, target in zip(places, targets, strict=True)]
    for target, value in zip(targets, values, strict=True):
        # The configuration has all digits of the same rate.
        if target.name == "learning_rate" and np.float32(optimizer.learning_rate) == value:
            continue
        target.assign(value)
