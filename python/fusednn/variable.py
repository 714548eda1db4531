"""A weight of a layer: a value updated in place, and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fusednn._arguments import check_number
from fusednn.arithmetic import Arithmetic
from fusednn.devices import CPU, Device, count_move

if TYPE_CHECKING:
    from fusednn.constraints import Constraint
    from fusednn.regularizers import Regularizer

Array = np.ndarray[Any, np.dtype[Any]]


class Variable(Arithmetic):
    """A named array that layers read and optimizers update in place.

    Parameters
    ----------
    value : array_like
        First value; copied to a C-contiguous array.
    name : str
        Short name within its layer, as in Keras: ``"kernel"``, ``"gamma"``.
    path : str, optional
        Name within the model, ``"dense/kernel"``; `name` if not given.
    trainable : bool
        Whether an optimizer may update it. Moving statistics are not trainable.
    dtype : dtype_like, optional
        Type of the elements; that of `value` if not given.
    regularizer : fusednn.regularizers.Regularizer, optional
        A penalty that models add to their loss.
    constraint : fusednn.constraints.Constraint, optional
        What optimizers do to the value after each step.

    Notes
    -----
    The arrays behind `value` and `grad` stay the same until the variable moves to another device:
    kernels and optimizers keep references to them. `assign` copies into `value`. In Keras the
    value is replaced by each assignment, and gradients are not stored on the variable.

    Operators and indices give arrays of their own; see `Arithmetic`.
    """

    __slots__ = (
        "_device",
        "_grad",
        "_learning_rate_multiplier",
        "_value",
        "constraint",
        "name",
        "path",
        "regularizer",
        "trainable",
    )

    def __init__(
        self,
        value: ArrayLike,
        *,
        name: str = "variable",
        path: str | None = None,
        trainable: bool = True,
        dtype: DTypeLike | None = None,
        regularizer: Regularizer | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self._value: Array = np.array(value, dtype=dtype, order="C")
        self._grad: Array | None = None
        self._device = CPU
        self._learning_rate_multiplier = 1.0
        self.name = name
        self.path = name if path is None else path
        self.trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def value(self) -> Array:
        """The C-contiguous array itself, not a copy; CuPy's where the variable is on a GPU."""
        return self._value

    @property
    def grad(self) -> Array:
        """Gradient of the loss, of the shape of `value`; allocated at first use, then reused."""
        if self._grad is None:
            self._grad = self._device.full(self.shape, 0, self.dtype)
        return self._grad

    @property
    def learning_rate_multiplier(self) -> float:
        """What optimizers multiply their learning rate by for this variable; at least 0.

        Settable at any time, from the next step on.
        """
        return self._learning_rate_multiplier

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: float) -> None:
        number = check_number("learning_rate_multiplier", value, minimum=0)
        if number != self._learning_rate_multiplier:
            self._learning_rate_multiplier = number
            count_move()

    @property
    def device(self) -> Device:
        """Where `value` and `grad` lie."""
        return self._device

    def move_to(self, device: Device) -> None:
        """Bring `value` and `grad` to another device, in new arrays."""
        if device is self._device:
            return
        value = device.array(self._device.read(self._value))
        if self._grad is not None:
            self._grad = device.array(self._device.read(self._grad))
        self._value = value
        self._device = device
        count_move()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        shape: tuple[int, ...] = self._value.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._value.dtype

    def assign(self, value: ArrayLike) -> None:
        """Copy `value`, which must have this variable's shape, into the variable."""
        new = np.asarray(value)
        if new.shape != self.shape:
            raise ValueError(
                f"`value` must have the shape of variable '{self.path}', {self.shape}. "
                f"Received: value of shape {new.shape}"
            )
        if not np.can_cast(new.dtype, self.dtype, casting="same_kind"):
            raise TypeError(
                f"`value` must be convertible to {self.dtype}, the dtype of variable "
                f"'{self.path}'. Received: value of dtype {new.dtype}"
            )
        self._device.write(self._value, new)

    def assign_add(self, value: ArrayLike) -> None:
        """Add `value`, which must have this variable's shape or be a number, to the variable."""
        self.assign(self.numpy() + np.asarray(value))

    def assign_sub(self, value: ArrayLike) -> None:
        """Subtract `value` from the variable, as `assign_add` adds it."""
        self.assign(self.numpy() - np.asarray(value))

    def __float__(self) -> float:
        return float(self.numpy())

    def numpy(self) -> Array:
        """Copy of the value, an array of NumPy."""
        return self._device.read(self._value)

    def __getstate__(self) -> Any:
        # A copy of what is on a GPU is the CPU's, until it is moved.
        state = {name: getattr(self, name) for name in self.__slots__}
        if self._device is not CPU:
            grad = None if self._grad is None else self._device.read(self._grad)
            state |= {"_device": CPU, "_value": self.numpy(), "_grad": grad}
        return None, state

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._device is not CPU:
            if copy is False:
                raise ValueError(
                    f"`copy` must not be False: the variable is on {self._device.name}. "
                    "Received: copy=False"
                )
            return self.numpy().astype(self.dtype if dtype is None else dtype, copy=False)
        if copy is False and dtype is not None and np.dtype(dtype) != self.dtype:
            raise ValueError(
                f"`dtype` must be {self.dtype} where no copy is allowed. Received: dtype={dtype}"
            )
        if copy is False or (copy is None and (dtype is None or np.dtype(dtype) == self.dtype)):
            return self._value
        return self._value.astype(self.dtype if dtype is None else dtype, copy=True)

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"
