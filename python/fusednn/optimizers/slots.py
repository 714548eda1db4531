"""The arrays behind an optimizer's variables, as the argument lists of its kernel calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusednn import ops
from fusednn.devices import CPU, Device, device_of, moves
from fusednn.optimizers.options import Array, State

if TYPE_CHECKING:
    from fusednn.variable import Variable


class Group(NamedTuple):
    """Variables that one kernel call updates: its argument lists, built once and reused."""

    #: Places of the variables among those that the optimizer was built with.
    positions: list[int]
    #: Whether weight decay applies: a call has one decay for all of its variables.
    decays: bool
    #: What the learning rate is multiplied by: a call has one rate, too.
    rate: float
    params: list[Array]
    states: dict[str, list[State]]
    averages: list[Array] | None


class DecayExclusion:
    """Which variables are exempt from weight decay: listed ones, and those with certain names."""

    def __init__(self, variables: Iterable[Variable] = (), patterns: Iterable[str] = ()) -> None:
        self._variables = list(variables)
        joined = "|".join(patterns)
        self._pattern = re.compile(joined) if joined else None

    def __contains__(self, variable: Variable) -> bool:
        named = self._pattern is not None and self._pattern.search(variable.name) is not None
        return named or any(variable is exempt for exempt in self._variables)


class Slots:
    """Variables, their states and their moving averages.

    Float64 for float64, else float32; states may be in 8 bits.

    Parameters
    ----------
    variables
        Distinct variables; their arrays are kept.
    initial_states
        Name and initial value of each state.
    codes
        None, or for each state whether its 8-bit codes are signed.
    use_ema
        Whether to keep averages; they start as copies of the variables.
    sums
        Whether to keep sums of gradients, of the variables' types.
    exempt
        Variables without weight decay.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        initial_states: dict[str, float],
        *,
        codes: Mapping[str, bool] | None,
        use_ema: bool,
        sums: bool,
        exempt: DecayExclusion,
    ) -> None:
        self.variables = list(variables)
        self._positions = {id(variable): i for i, variable in enumerate(self.variables)}
        if len(self._positions) != len(self.variables):
            raise ValueError(
                f"`variables` must be distinct. Received: {len(self.variables)} variables, "
                f"of which {len(self._positions)} are distinct"
            )
        self._exempt = exempt
        for variable in self.variables if codes is not None else ():
            if variable.dtype == np.float64:
                raise TypeError(
                    "`quantized_states` must be False for float64 variables. "
                    f"Received: quantized_states=True, `{variable.path}` of dtype float64"
                )
        self.states: dict[str, list[State]] = {
            name: [
                _full(variable, value)
                if codes is None
                else _quantized(variable, value, signed=codes[name])
                for variable in self.variables
            ]
            for name, value in initial_states.items()
        }
        self.averages = (
            [v.device.array(v.numpy().astype(_dtype(v.dtype))) for v in self.variables]
            if use_ema
            else None
        )
        self.sums = [v.device.full(v.shape, 0, v.dtype) for v in self.variables] if sums else None
        self._arrange()

    def _arrange(self) -> None:
        """Make what refers to the arrays where they are now."""
        self._moves = moves()
        # What constraints use for intermediate results, by position.
        self._work = {
            position: variable.device.empty(variable.shape, variable.dtype)
            for position, variable in enumerate(self.variables)
            if variable.constraint is not None
        }
        #: The groups of a step of all variables.
        self.groups = self.grouped(range(len(self.variables)))

    def follow_variables(self) -> bool:
        """Bring states and averages to where their variables are, and these to their rates.

        Returns whether the groups are other ones now.
        """
        if self._moves == moves():
            return False
        if all(
            group.params[place] is self.variables[i].value
            and group.rate == self.variables[i].learning_rate_multiplier
            for group in self.groups
            for place, i in enumerate(group.positions)
        ):
            self._moves = moves()
            return False
        for arrays in self.states.values():
            arrays[:] = [moved(a, v.device) for a, v in zip(arrays, self.variables, strict=True)]
        for kept in (self.averages, self.sums):
            if kept is not None:
                pairs = zip(kept, self.variables, strict=True)
                kept[:] = [_array_moved(a, v.device) for a, v in pairs]
        self._arrange()
        return True

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["groups"], state["_work"], state["_positions"], state["_moves"]
        # As with the variables, a copy of what is on a GPU is the CPU's.
        state["states"] = {
            name: [moved(array, CPU) for array in arrays] for name, arrays in self.states.items()
        }
        for name in ("averages", "sums"):
            if state[name] is not None:
                state[name] = [_array_moved(array, CPU) for array in state[name]]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy has variables of its own.
        self.__dict__.update(state)
        self._positions = {id(variable): i for i, variable in enumerate(self.variables)}
        self._arrange()

    def position(self, variable: Variable) -> int:
        """Return the place of a variable; raise ValueError where it is unknown."""
        try:
            return self._positions[id(variable)]
        except KeyError:
            raise ValueError(
                f"Unknown variable `{variable.path}`: an optimizer only updates the variables "
                "that it was built with. Make a new optimizer for other ones."
            ) from None

    def constrain(self, grads: Sequence[Array | None] | None = None) -> None:
        """Apply the constraints of variables, of those that have a gradient where it is told."""
        for position, work in self._work.items():
            variable = self.variables[position]
            if variable.constraint is not None and (grads is None or grads[position] is not None):
                variable.constraint.apply(variable.value, work)

    def grouped(self, positions: Iterable[int]) -> list[Group]:
        """Return the groups of a step of some variables."""
        split: dict[tuple[bool, float], list[int]] = {}
        for position in positions:
            variable = self.variables[position]
            key = variable not in self._exempt, variable.learning_rate_multiplier
            split.setdefault(key, []).append(position)
        return [
            Group(
                members,
                decays,
                rate,
                [self.variables[i].value for i in members],
                {name: [arrays[i] for i in members] for name, arrays in self.states.items()},
                None if self.averages is None else [self.averages[i] for i in members],
            )
            for (decays, rate), members in split.items()
        ]


def _dtype(dtype: np.dtype[Any]) -> type[np.float32] | type[np.float64]:
    return np.float64 if dtype == np.float64 else np.float32


def _full(variable: Variable, value: float) -> Array:
    return variable.device.full(variable.shape, value, _dtype(variable.dtype))


def moved(state: State, to: Device) -> State:
    """Return the state, or a copy of it where it is on another device."""
    if not isinstance(state, ops.QuantizedState):
        array: Array = _array_moved(state, to)
        return array
    if device_of(state.codes) is to:
        return state
    if not state.codes.flags.c_contiguous:  # elements share scales in the order of memory
        laid_out = ops.quantized_state(np.empty(state.shape, np.float32), signed=state.signed)
        laid_out.assign(state.dequantize())
        state = laid_out
    codes, scales = (_array_moved(part, to) for part in (state.codes, state.scales))
    return ops.QuantizedState(codes, scales, signed=state.signed)


def _array_moved(array: Any, to: Device) -> Any:
    device = device_of(array)
    return array if device is to else to.array(device.read(array))


def _quantized(variable: Variable, value: float, *, signed: bool) -> State:
    on_host = variable.device is CPU
    like = variable.value if on_host else np.empty(variable.shape, np.float32)
    state = ops.quantized_state(like, signed=signed)
    if value:
        state.assign(np.full(variable.shape, value))
    return moved(state, variable.device)
