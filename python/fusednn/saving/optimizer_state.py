"""An optimizer's numbers in the order in which Keras 3 writes its variables.

Number of steps; learning rate, unless it follows a schedule; moving averages; then the states:
a pair of `_INTERLEAVED` variable by variable, all others list by list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusednn.devices import device_of
from fusednn.optimizers import Nadam, Optimizer
from fusednn.variable import Variable

Array = np.ndarray[Any, np.dtype[Any]]

_INTERLEAVED = (("momentum", "velocity"), ("momentum", "norm"))


def written_state(optimizer: Optimizer) -> list[Array]:
    """Return the arrays to write.

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
    arrays: list[Array] = [np.asarray(optimizer.iterations, np.int32)]
    if not optimizer.follows_schedule:
        arrays.append(np.asarray(optimizer.learning_rate, np.float32))
    if not optimizer.built:
        return arrays
    arrays += [_of_numpy(average) for average in optimizer.averages or ()]
    arrays += [_of_numpy(state) for state in _in_order(optimizer)]
    if isinstance(optimizer, Nadam):
        arrays.append(np.asarray(_product(optimizer), np.float32))
    return arrays


def _of_numpy(array: Any) -> Array:
    return device_of(array).read(array)


def _in_order(optimizer: Optimizer) -> list[Any]:
    states = optimizer.states
    names = list(states)
    if tuple(names[:2]) in _INTERLEAVED and type(optimizer).__name__ != "RMSprop":
        pairs = zip(states[names[0]], states[names[1]], strict=True)
        ordered: list[Any] = [state for pair in pairs for state in pair]
        rest = names[2:]
    else:
        ordered, rest = [], names
    for name in rest:
        ordered += states[name]
    return ordered


def _product(optimizer: Nadam) -> float:
    steps = np.arange(1, min(optimizer.iterations, 2000) + 1)
    factors = float(np.prod(1 - 0.5 * 0.96**steps))
    return math.pow(optimizer.beta_1, optimizer.iterations) * factors


def restore_state(
    optimizer: Optimizer,
    variables: Sequence[Variable],
    count: int,
    read: Callable[[int, tuple[int, ...]], Array],
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
    """
    place = 1
    iterations = int(read(0, ()))
    rate = None
    if not optimizer.follows_schedule:
        rate, place = float(read(1, ())), 2
    if count > place:
        optimizer.build(variables)
        targets = [*(optimizer.averages or ()), *_in_order(optimizer)]
        expected = place + len(targets) + isinstance(optimizer, Nadam)
        if count != expected:
            raise ValueError(
                f"The file must hold {expected} arrays for the optimizer. Received: {count}"
            )
        values = [read(place + i, target.shape) for i, target in enumerate(targets)]
        for target, value in zip(targets, values, strict=True):
            target[...] = value
    optimizer.iterations = iterations
    # The configuration has all digits of the same rate.
    if rate is not None and np.float32(optimizer.learning_rate) != np.float32(rate):
        optimizer.learning_rate = rate
