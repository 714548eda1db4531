"""The mean squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fusednn.losses.base import Array
from fusednn.losses.plain import PlainLoss
from fusednn.losses.scratch import Scratch


class MeanSquaredError(PlainLoss):
    """Mean squared error: ``mean((y_pred - y_true)**2)`` over the last axis, then the samples.

    Targets have the shape of the predictions. PyTorch's `MSELoss` gives the same number.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    def per_row(
        self,
        y_true: Array,
        y_pred: Array,
        *,
        from_logits: bool,
        work: Array,
        scale: float | None,
        scratch: Scratch,
    ) -> Array:
        """See `Loss.per_row`."""
        features = max(y_pred.shape[1], 1)
        np.subtract(y_pred, y_true, out=work)
        losses: Array = np.einsum("ij,ij->i", work, work, out=scratch.vector("losses"))
        losses /= features
        if scale is not None:
            work *= 2.0 * scale / features
        return losses


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the mean squared error of each sample; see `MeanSquaredError`."""
    return MeanSquaredError().call(y_true, y_pred)
