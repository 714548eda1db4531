"""Metrics that are plain functions of the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fusednn._serialization import OfFunction, function_name
from fusednn.metrics.base import Array, MeanOverSamples


class MeanMetricWrapper(MeanOverSamples, OfFunction):
    """The mean of ``fn(y_true, y_pred)`` over the samples, as in Keras.

    Parameters
    ----------
    fn : callable
        Returns one number for each sample, or one for each element; or a single one, which counts
        for each sample of the batch.
    name : str, optional
        The function's name by default.
    dtype : str, optional
        See `Metric`.
    **kwargs
        Passed to the function.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name or function_name(fn), dtype)
        self.fn = fn
        self._options = kwargs

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        values = np.asarray(self.fn(y_true, y_pred, **self._options))
        return np.full(len(y_pred), values) if values.ndim == 0 else values

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return super().get_config() | {"fn": self.fn, **self._options}
