"""The binary cross-entropy, of probabilities or, stably, of logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fusednn.losses.base import EPSILON, Array
from fusednn.losses.crossentropy import Crossentropy
from fusednn.losses.scratch import Scratch


class BinaryCrossentropy(Crossentropy):
    """Binary cross-entropy: mean of ``-t * log(p) - (1 - t) * log(1 - p)`` over the last axis.

    Targets t have the shape of the predictions (an axis of length 1 at the end may be missing),
    and lie in [0, 1].

    - Probabilities are clipped to [1e-7, 1 - 1e-7], as in Keras; there the gradient is 0.
      (PyTorch's `BCELoss` clamps the logarithms at -100 instead.)
    - Logits z: ``max(z, 0) - z * t + log1p(exp(-abs(z)))``, gradient ``sigmoid(z) - t``; finite for
      every finite z.

    Parameters
    ----------
    from_logits
        Predictions are logits, not probabilities.
    label_smoothing
        In [0, 1]; s > 0 replaces t by ``t * (1 - s) + s / 2``.
    axis
        Must be -1.
    reduction, name, dtype
        See `Loss`.
    """

    link = "sigmoid"

    def targets(self, y_true: Array, shape: tuple[int, ...], scratch: Scratch) -> Array:
        """See `Loss.targets`."""
        targets = super().targets(y_true, shape, scratch)
        # NaN passes neither comparison.
        if targets.size and not (targets.min() >= 0 and targets.max() <= 1):
            row, column = np.argwhere(~((targets >= 0) & (targets <= 1)))[0]
            raise ValueError(
                "Labels of the binary cross-entropy must be in [0, 1]. "
                f"Received: y_true={targets[row, column]:g} in row {row}"
            )
        return self._smoothed(targets, 0.5, scratch)

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
        evaluate = _from_logits if from_logits else _from_probabilities
        elements = evaluate(y_true, y_pred, work, scale is not None, scratch)
        features = max(y_pred.shape[1], 1)
        if scale is not None:
            work *= scale / features
        losses = elements.dot(scratch.ones(), out=scratch.vector("losses"))
        losses /= features
        return losses


def _from_logits(
    y_true: Array, y_pred: Array, work: Array, gradient: bool, scratch: Scratch
) -> Array:
    elements = np.abs(y_pred, out=scratch.matrix("elements"))
    np.negative(elements, out=elements)
    np.exp(elements, out=elements)
    np.log1p(elements, out=elements)
    # max(z, 0) - z t as one product, which keeps its sign and does not cancel.
    hinge = scratch.matrix("hinge")
    np.copyto(hinge, np.greater(y_pred, 0, out=scratch.matrix("positive", np.bool_)))
    hinge -= y_true
    hinge *= y_pred
    elements += hinge
    if gradient:
        np.negative(y_pred, out=work)
        np.exp(work, out=work)  # overflows to infinity, whose reciprocal is the right 0
        work += 1.0
        np.reciprocal(work, out=work)
        work -= y_true
    return elements


def _from_probabilities(
    y_true: Array, y_pred: Array, work: Array, gradient: bool, scratch: Scratch
) -> Array:
    p = np.clip(y_pred, EPSILON, 1.0 - EPSILON, out=scratch.matrix("p"))
    q = np.subtract(1.0, p, out=scratch.matrix("q"))
    other, elements = scratch.matrix("other"), scratch.matrix("elements")
    # -(t log p + (1 - t) log q)
    np.log(q, out=other)
    np.subtract(1.0, y_true, out=elements)
    other *= elements
    np.log(p, out=elements)
    elements *= y_true
    elements += other
    np.negative(elements, out=elements)
    if gradient:
        clipped = np.not_equal(p, y_pred, out=scratch.matrix("clipped", np.bool_))
        np.subtract(p, y_true, out=work)
        q *= p
        work /= q
        np.copyto(work, 0.0, where=clipped)
    return elements


def binary_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Return the binary cross-entropy of each sample; see `BinaryCrossentropy`."""
    return BinaryCrossentropy(from_logits, label_smoothing, axis).call(y_true, y_pred)
