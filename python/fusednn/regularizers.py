"""Penalties on weights or outputs, with Keras' names and numbers, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusednn._arguments import check_number
from fusednn._serialization import Configurable, OfFunction, Registry, custom, function_name
from fusednn._serialization import serialize as serialize_object

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]

Array = NDArray[Any]


class Regularizer(Configurable):
    """Base class: a penalty that is added to the loss.

    A new regularizer is a subclass with `__call__`, as in Keras, and with `gradient`, because there
    is no differentiation here; or with `penalty` and `add_gradient`, which need not allocate.
    """

    def penalty(self, x: Array, work: Array | None = None) -> float:
        """Return the penalty of `x`, a floating-point array; `work` as in `add_gradient`."""
        if type(self).__call__ is Regularizer.__call__:
            raise NotImplementedError(f"{type(self).__name__} must define `__call__` or `penalty`.")
        return float(self(x))

    def gradient(self, x: Array) -> Array:
        """Return the gradient of ``self(x)``, of the shape of `x`."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `gradient`: gradients are written by hand."
        )

    def add_gradient(self, x: Array, grad: Array, scale: float, work: Array) -> None:
        """Add `scale` times the penalty's gradient to `grad`.

        `work` is an array like `x`, apart from both, to be overwritten.
        """
        np.multiply(self.gradient(x), scale, out=work, casting="same_kind")
        grad += work

    def __call__(self, x: ArrayLike) -> float:
        """Return the penalty of anything array-like."""
        array = np.asarray(x)
        return self.penalty(array if array.dtype.kind == "f" else array.astype(np.float32))


class L1L2(Regularizer):
    """``l1 * sum(abs(x)) + l2 * sum(x**2)``.

    The gradient is ``l1 * sign(x) + 2 * l2 * x``. PyTorch's L2 `weight_decay` d is ``l2 = d / 2``;
    the optimizers' own `weight_decay` is decoupled from the gradient, which this is not.

    Parameters
    ----------
    l1, l2
        >= 0; both 0 by default, as in Keras.
    """

    config_names: ClassVar[tuple[str, ...]] = ("l1", "l2")

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1 = check_number("l1", 0.0 if l1 is None else l1, minimum=0)
        self.l2 = check_number("l2", 0.0 if l2 is None else l2, minimum=0)

    def penalty(self, x: Array, work: Array | None = None) -> float:
        """See `Regularizer.penalty`."""
        total = 0.0
        if self.l1:
            total += self.l1 * float(np.abs(x, out=work).sum())
        if self.l2:
            flat = x.reshape(-1)
            total += self.l2 * float(np.dot(flat, flat))
        return total

    def add_gradient(self, x: Array, grad: Array, scale: float, work: Array) -> None:
        """See `Regularizer.add_gradient`."""
        if self.l1:
            np.sign(x, out=work)
            work *= scale * self.l1
            grad += work
        if self.l2:
            np.multiply(x, 2 * scale * self.l2, out=work)
            grad += work


class L1(L1L2):
    """``l1 * sum(abs(x))``.

    Parameters
    ----------
    l1
        >= 0; 0.01 by default, as in Keras.
    """

    def __init__(self, l1: float | None = 0.01) -> None:
        super().__init__(l1=0.01 if l1 is None else l1)

    def get_config(self) -> dict[str, Any]:
        """Return the factor."""
        return {"l1": self.l1}


class L2(L1L2):
    """``l2 * sum(x**2)``.

    Parameters
    ----------
    l2
        >= 0; 0.01 by default, as in Keras.
    """

    def __init__(self, l2: float | None = 0.01) -> None:
        super().__init__(l2=0.01 if l2 is None else l2)

    def get_config(self) -> dict[str, Any]:
        """Return the factor."""
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """`factor` times the mean of ``abs(u . v)`` over all pairs of rows (or columns) of a matrix.

    u and v are the rows, divided by their lengths. A matrix of one row has no penalty.

    Parameters
    ----------
    factor
        >= 0.
    mode : {"rows", "columns"}
        What is to be orthogonal.
    """

    config_names = ("factor", "mode")

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = check_number("factor", factor, minimum=0)
        if mode not in ("rows", "columns"):
            raise ValueError(f"`mode` must be 'rows' or 'columns'. Received: mode={mode!r}")
        self.mode = mode

    def _units(self, x: Array) -> tuple[Array, Array, float]:
        """Return the vectors as rows of unit length, their lengths, and twice the pairs."""
        if x.ndim != 2:
            raise ValueError(
                f"`OrthogonalRegularizer` needs an array of 2 axes. Received: shape {x.shape}"
            )
        rows = x if self.mode == "rows" else x.T
        lengths = np.sqrt(np.maximum(np.einsum("ij,ij->i", rows, rows), 1e-12))[:, None]
        size = len(rows)
        return rows / lengths, lengths, size * (size - 1.0)

    def penalty(self, x: Array, work: Array | None = None) -> float:
        """See `Regularizer.penalty`."""
        units, _, count = self._units(x)
        products = np.abs(units @ units.T)
        np.fill_diagonal(products, 0)
        return self.factor * float(products.sum()) / count if count else 0.0

    def add_gradient(self, x: Array, grad: Array, scale: float, work: Array) -> None:
        """See `Regularizer.add_gradient`."""
        units, lengths, count = self._units(x)
        if not count:
            return
        signs = np.sign(units @ units.T)
        np.fill_diagonal(signs, 0)
        pull = signs @ units
        # Only what changes the direction counts: the vectors are normalised first.
        pull -= np.einsum("ij,ij->i", pull, units)[:, None] * units
        pull *= 2 * scale * self.factor / count / lengths
        grad += pull if self.mode == "rows" else pull.T


class FunctionRegularizer(Regularizer, OfFunction):
    """A plain function of a weight, whose attribute `gradient` is the function of its gradient."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        if not callable(getattr(fn, "gradient", None)):
            raise ValueError(
                "A function is a regularizer only with its gradient, for there is no "
                f"differentiation: set its attribute `gradient`, `{function_name(fn)}.gradient = "
                "...`, or make a subclass of `regularizers.Regularizer`. "
                f"Received: regularizer={fn!r}"
            )
        self.fn = fn

    def __call__(self, x: ArrayLike) -> float:
        """Return ``fn(x)``."""
        return float(self.fn(x))

    def gradient(self, x: Array) -> Array:
        """Return ``fn.gradient(x)``."""
        gradient: Any = getattr(self.fn, "gradient")  # noqa: B009 - functions have any attributes
        return np.asarray(gradient(x))


l1 = L1
l2 = L2
l1_l2 = L1L2
orthogonal_regularizer = OrthogonalRegularizer

_registry: Registry[Regularizer] = Registry(
    "regularizer", Regularizer, [L1, L2, L1L2, OrthogonalRegularizer], {"l1_l2": L1L2}
)


def get(identifier: Any) -> Regularizer | None:
    """Return a regularizer, or None for None.

    Parameters
    ----------
    identifier
        A regularizer (returned as it is), a class, a name (``"l2"``, ``"L2"``, ``"l1_l2"``, ...),
        or a dictionary ``{"class_name": ..., "config": ...}``.

    Raises
    ------
    ValueError
        It is none of these.
    """
    if callable(identifier) and not isinstance(identifier, (Regularizer, type)):
        return FunctionRegularizer(identifier)
    return None if identifier is None else _registry.get(identifier)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Regularizer | None:
    """As `get`, which also finds classes and functions of your own by name in `custom_objects`."""
    return get(custom(config, custom_objects))


def serialize(regularizer: Regularizer | None) -> Any:
    """Return ``{"class_name": ..., "config": ...}``, which `get` turns back; None for None."""
    return None if regularizer is None else serialize_object(regularizer)
