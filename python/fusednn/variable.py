"""A weight of a layer: a value updated in place, and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

if TYPE_CHECKING:
    from fusednn.constraints import Constraint
    from fusednn.regularizers import Regularizer

Array = np.ndarray[Any, np.dtype[Any]]


class Variable:
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
    The arrays behind `value` and `grad` never change for the life of the variable: kernels and
    optimizers keep references to them. `assign` copies into `value`. In Keras the value is
    replaced by each assignment, and gradients are not stored on the variable.
    """

    __slots__ = ("_grad", "_value", "constraint", "name", "path", "regularizer", "trainable")

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
        self.name = name
        self.path = name if path is None else path
        self.trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def value(self) -> Array:
        """The C-contiguous array itself, not a copy."""
        return self._value

    @property
    def grad(self) -> Array:
        """Gradient of the loss, of the shape of `value`; allocated at first use, then reused."""
        if self._grad is None:
            self._grad = np.zeros_like(self._value)
        return self._grad

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
        np.copyto(self._value, new, casting="same_kind")

    def numpy(self) -> Array:
        """Copy of the value."""
        return self._value.copy()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False and dtype is not None and np.dtype(dtype) != self.dtype:
            raise ValueError(
                f"`dtype` must be {self.dtype} where no copy is allowed. Received: dtype={dtype}"
            )
        if copy is False or (copy is None and (dtype is None or np.dtype(dtype) == self.dtype)):
            return self._value
        return self._value.astype(self.dtype if dtype is None else dtype, copy=True)

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"
