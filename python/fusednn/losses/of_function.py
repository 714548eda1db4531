"""Losses that are plain functions of the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fusednn._serialization import OfFunction, function_name
from fusednn.losses.base import Array, Loss


class LossFunctionWrapper(Loss, OfFunction):
    """The loss ``fn(y_true, y_pred)``, one number for each sample, as in Keras.

    Parameters
    ----------
    fn : callable
        Its attribute `gradient` is the function ``gradient(y_true, y_pred)`` that
        `Loss.gradient` tells of.
    reduction, name, dtype
        See `Loss`; the function's name by default.
    **kwargs
        Passed to both functions.

    Raises
    ------
    ValueError
        `fn` has no gradient.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not callable(getattr(fn, "gradient", None)):
            raise ValueError(
                "A function is a loss only with its gradient, for there is no differentiation: set "
                f"its attribute `gradient`, `{function_name(fn)}.gradient = ...`, or make a "
                f"subclass of `losses.Loss` with `call` and `gradient`. Received: loss={fn!r}"
            )
        super().__init__(name or function_name(fn), reduction, dtype)
        self.fn = fn
        self._options = kwargs

    def call(self, y_true: Any, y_pred: Any) -> Array:
        """Return ``fn(y_true, y_pred)``."""
        return np.asarray(self.fn(y_true, y_pred, **self._options))

    def gradient(self, y_true: Array, y_pred: Array) -> Array:
        """Return ``fn.gradient(y_true, y_pred)``."""
        gradient: Any = getattr(self.fn, "gradient")  # noqa: B009 - functions have any attributes
        return np.asarray(gradient(y_true, y_pred, **self._options))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return super().get_config() | {"fn": self.fn, **self._options}
