"""An optimizer's numbers as a list of variables, in the order and under the names of Keras 3.

Number of calls of `apply`; learning rate, unless it follows a schedule; moving averages; sums of
gradients that wait for their step; then the states: a pair of `_INTERLEAVED` variable by variable,
all others list by list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fusednn.devices import CPU, device_of
from fusednn.ops import QuantizedState
from fusednn.optimizers.options import Array, State
from fusednn.optimizers.slots import moved

if TYPE_CHECKING:
    from fusednn.optimizers.base import Optimizer

_INTERLEAVED = (("momentum", "velocity"), ("momentum", "norm"))


class StateVariable:
    """One of an optimizer's numbers or arrays: `numpy` reads it, `assign` sets it.

    Attributes
    ----------
    name, path : str
        ``"dense_kernel_momentum"``, and with the optimizer's name before it.
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        read: Callable[[], Any],
        write: Callable[[Any], None],
    ) -> None:
        self.path = path
        self.name = path.rpartition("/")[2]
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._read = read
        self._write = write

    def numpy(self) -> Array:
        """Return a copy of the value."""
        return np.array(self._read(), self.dtype)

    @property
    def value(self) -> Array:
        """As `numpy`."""
        return self.numpy()

    def assign(self, value: ArrayLike) -> None:
        """Set the optimizer to `value`, which must have this shape."""
        new = np.asarray(value)
        if new.shape != self.shape:
            raise ValueError(
                f"`value` must have the shape of '{self.path}', {self.shape}. "
                f"Received: value of shape {new.shape}"
            )
        self._write(new)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self.numpy().astype(self.dtype if dtype is None else dtype, copy=False)

    def __float__(self) -> float:
        return float(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def __repr__(self) -> str:
        return f"<StateVariable path={self.path}, shape={self.shape}, dtype={self.dtype}>"


def variables_of(optimizer: Optimizer) -> list[StateVariable]:
    """Return the variables of an optimizer; without its states before it is built."""

    def set_iterations(value: Any) -> None:
        optimizer.calls = int(value)

    def set_rate(value: Any) -> None:
        optimizer.learning_rate = float(value)

    first = f"{optimizer.name}/"
    found = [
        StateVariable(f"{first}iteration", (), np.int32, lambda: optimizer.calls, set_iterations)
    ]
    if not optimizer.follows_schedule:
        found.append(
            StateVariable(
                f"{first}learning_rate", (), np.float32, lambda: optimizer.learning_rate, set_rate
            )
        )
    return [*found, *(_of_state(f"{first}{name}", state) for name, state in _states(optimizer))]


def _states(optimizer: Optimizer) -> Iterator[tuple[str, State]]:
    names = [variable.path.replace("/", "_") for variable in optimizer.built_for]
    for name, average in zip(names, optimizer.averages or (), strict=False):
        yield f"{name}_average", average
    for name, total in zip(names, optimizer.sums or (), strict=False):
        yield f"{name}_gradient_accumulator", total
    states = optimizer.states
    kinds = list(states)
    if tuple(kinds[:2]) in _INTERLEAVED and type(optimizer).__name__ != "RMSprop":
        for i, name in enumerate(names):
            for kind in kinds[:2]:
                yield f"{name}_{kind}", states[kind][i]
        kinds = kinds[2:]
    for kind in kinds:
        for name, state in zip(names, states[kind], strict=True):
            yield f"{name}_{kind}", state


def _of_state(path: str, state: State) -> StateVariable:
    if isinstance(state, QuantizedState):
        return _of_codes(path, state)
    device = device_of(state)

    def write(value: Any) -> None:
        device.write(state, np.asarray(value))

    return StateVariable(path, state.shape, state.dtype, lambda: device.read(state), write)


def _of_codes(path: str, state: QuantizedState) -> StateVariable:
    """As numbers: codes are decoded on the CPU, wherever they are."""

    def read() -> Any:
        on_host = moved(state, CPU)
        assert isinstance(on_host, QuantizedState)
        return on_host.dequantize()

    def write(value: Any) -> None:
        device = device_of(state.codes)
        if device is CPU:
            state.assign(value)
            return
        on_host = moved(state, CPU)
        assert isinstance(on_host, QuantizedState)
        on_host.assign(value)
        device.write(state.codes, on_host.codes)
        device.write(state.scales, on_host.scales)

    return StateVariable(path, state.shape, np.float32, read, write)
