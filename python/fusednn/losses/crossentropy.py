"""What cross-entropies with targets between 0 and 1 have in common: their options."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fusednn._arguments import check_number
from fusednn.losses.axis import check_axis
from fusednn.losses.base import Array, Loss
from fusednn.losses.scratch import Scratch


class Crossentropy(Loss):
    """Base of `BinaryCrossentropy` and `CategoricalCrossentropy`, which explain the options."""

    config_names: ClassVar[tuple[str, ...]] = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.from_logits = bool(from_logits)
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, minimum=0, maximum=1
        )
        self.axis = check_axis(axis)

    def _smoothed(self, targets: Array, towards: float, scratch: Scratch) -> Array:
        """Return ``targets * (1 - s) + s * towards``, s being `label_smoothing`."""
        if not self.label_smoothing:
            return targets
        result = np.multiply(targets, 1.0 - self.label_smoothing, out=scratch.matrix("smoothed"))
        result += self.label_smoothing * towards
        return result
