"""Limits that weights are brought back to after each step, with Keras' names and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusednn._arguments import check_number
from fusednn._serialization import Configurable, OfFunction, Registry, custom
from fusednn._serialization import serialize as serialize_object

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]

Array = NDArray[Any]

#: Added to norms before a division, as in Keras.
EPSILON = 1e-7


class Constraint(Configurable):
    """Base class: what an optimizer does to a weight after each of its steps.

    A new constraint is a subclass with `__call__`, as in Keras, or with `apply`.
    """

    def __call__(self, w: ArrayLike) -> Array:
        """Return the constrained values of `w`, as a new array."""
        values = np.array(w)
        self.apply(values, np.empty_like(values))
        return values

    def apply(self, w: Array, work: Array) -> None:
        """Constrain `w`, in place; `work` is an array like it, to be overwritten."""
        if type(self).__call__ is Constraint.__call__:
            raise NotImplementedError(f"{type(self).__name__} must define `__call__` or `apply`.")
        np.copyto(w, self(w), casting="same_kind")


class NonNeg(Constraint):
    """``max(w, 0)``."""

    def apply(self, w: Array, work: Array) -> None:
        """See `Constraint.apply`."""
        np.maximum(w, 0, out=w)


class NormConstraint(Constraint):
    """Base of limits on the Euclidean norm along `axis`: w is multiplied by `factors` of norms.

    Parameters
    ----------
    axis : int or sequence of int
        The axes that a norm is taken over: 0 for the weights of each unit of `Dense`,
        ``[0, 1, 2]`` for those of each filter of `Conv2D`.
    """

    config_names: ClassVar[tuple[str, ...]] = ("axis",)

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = axis

    def factors(self, norms: Array) -> Array:
        """Return what weights of these norms are multiplied by."""
        raise NotImplementedError(f"{type(self).__name__} must define `factors`.")

    def apply(self, w: Array, work: Array) -> None:
        """See `Constraint.apply`."""
        axes = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        np.multiply(w, w, out=work)
        w *= self.factors(np.sqrt(work.sum(axis=axes, keepdims=True)))


class MaxNorm(NormConstraint):
    """Norms above `max_value` become `max_value`: ``w * min(norm, max_value) / (1e-7 + norm)``.

    Parameters
    ----------
    max_value
        >= 0; 2 by default, as in Keras.
    axis
        See `NormConstraint`.
    """

    config_names = ("max_value",)

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0) -> None:
        super().__init__(axis)
        self.max_value = check_number("max_value", max_value, minimum=0)

    def factors(self, norms: Array) -> Array:
        """See `NormConstraint.factors`."""
        factors: Array = np.minimum(norms, self.max_value) / (norms + EPSILON)
        return factors


class UnitNorm(NormConstraint):
    """Norms become 1: ``w / (1e-7 + norm)``.

    Parameters
    ----------
    axis
        See `NormConstraint`.
    """

    def factors(self, norms: Array) -> Array:
        """See `NormConstraint.factors`."""
        factors: Array = 1 / (norms + EPSILON)
        return factors


class MinMaxNorm(NormConstraint):
    """Norms move into ``[min_value, max_value]``, by the fraction `rate` of what is missing.

    Parameters
    ----------
    min_value, max_value
        0 <= min_value <= max_value.
    rate
        In [0, 1]; 1 goes all the way.
    axis
        See `NormConstraint`.
    """

    config_names = ("min_value", "max_value", "rate")

    def __init__(
        self,
        min_value: float = 0.0,
        max_value: float = 1.0,
        rate: float = 1.0,
        axis: int | Sequence[int] = 0,
    ) -> None:
        super().__init__(axis)
        self.min_value = check_number("min_value", min_value, minimum=0)
        self.max_value = check_number("max_value", max_value, minimum=self.min_value)
        self.rate = check_number("rate", rate, minimum=0, maximum=1)

    def factors(self, norms: Array) -> Array:
        """See `NormConstraint.factors`."""
        wanted = np.clip(norms, self.min_value, self.max_value) * self.rate
        wanted += norms * (1 - self.rate)
        factors: Array = wanted / (norms + EPSILON)
        return factors


class FunctionConstraint(Constraint, OfFunction):
    """A plain function of a weight."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, w: ArrayLike) -> Array:
        """Return ``fn(w)``."""
        return np.asarray(self.fn(w))


max_norm = MaxNorm
min_max_norm = MinMaxNorm
non_neg = NonNeg
unit_norm = UnitNorm

_registry: Registry[Constraint] = Registry(
    "constraint", Constraint, [MaxNorm, MinMaxNorm, NonNeg, UnitNorm]
)


def get(identifier: Any) -> Constraint | None:
    """Return a constraint, or None for None.

    Parameters
    ----------
    identifier
        A constraint (returned as it is), a class, a name (``"max_norm"``, ``"MaxNorm"``, ...), or a
        dictionary ``{"class_name": ..., "config": ...}``, or a function that returns the
        constrained values of a weight.

    Raises
    ------
    ValueError
        It is none of these.
    """
    if callable(identifier) and not isinstance(identifier, (Constraint, type)):
        return FunctionConstraint(identifier)
    return None if identifier is None else _registry.get(identifier)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Constraint | None:
    """As `get`, which also finds classes and functions of your own by name in `custom_objects`."""
    return get(custom(config, custom_objects))


def serialize(constraint: Constraint | None) -> Any:
    """Return ``{"class_name": ..., "config": ...}``, which `get` turns back; None for None."""
    return None if constraint is None else serialize_object(constraint)
