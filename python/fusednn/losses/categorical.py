"""The cross-entropy over classes, with one-hot or integer labels, stable from logits."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_number
from fusednn.losses.base import EPSILON, Array, Loss
from fusednn.losses.binary import check_axis


class CategoricalCrossentropy(Loss):
    """Cross-entropy with one-hot (or soft) labels t: ``-sum(t * log(q))`` over the last axis.

    Labels have the shape (..., K) of the predictions.

    - Probabilities p: ``q = p / sum(p)``, clipped to [1e-7, 1 - 1e-7] as in Keras; the gradient is
      that of Keras too: through the sum, and 0 through what was clipped.
    - Logits z: ``log(q) = z - max(z) - log(sum(exp(z - max(z))))``, gradient
      ``softmax(z) * sum(t) - t``; finite for all finite z. As PyTorch's `CrossEntropyLoss`.

    Parameters
    ----------
    from_logits
        Predictions are logits, not probabilities.
    label_smoothing
        In [0, 1]; s > 0 replaces t by ``t * (1 - s) + s / K``.
    axis
        Must be -1.
    reduction, name
        See `Loss`.
    """

    config_names = ("from_logits", "label_smoothing", "axis")
    link = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        self.from_logits = bool(from_logits)
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, minimum=0, maximum=1
        )
        self.axis = check_axis(axis)

    def targets(self, y_true: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """See `Loss.targets`."""
        targets = np.asarray(y_true, dtype)
        if targets.shape != shape:
            integers = " Integer labels need `SparseCategoricalCrossentropy`."
            hint = integers if targets.shape in (shape[:-1], (*shape[:-1], 1)) else ""
            raise ValueError(
                f"`y_true` must be one-hot, of the shape of `y_pred`, {shape}.{hint} "
                f"Received: y_true of shape {targets.shape}"
            )
        targets = super().targets(targets, shape, dtype)
        if self.label_smoothing:
            classes = max(shape[-1], 1)
            targets = targets * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        return targets

    def per_row(
        self, y_true: Array, y_pred: Array, *, from_logits: bool, work: Array, scale: float | None
    ) -> Array:
        """See `Loss.per_row`."""
        if from_logits:
            np.subtract(y_pred, _row_max(y_pred), out=work)
            picked = np.einsum("ij,ij->i", y_true, work)
            np.exp(work, out=work)
            sums, mass = work.sum(axis=1), y_true.sum(axis=1)
            losses: Array = np.log(sums) * mass - picked
            if scale is not None:
                work *= (mass / sums)[:, None]
                work -= y_true
                work *= scale
            return losses
        sums = y_pred.sum(axis=1, keepdims=True)
        np.divide(y_pred, sums, out=work)
        q = np.clip(work, EPSILON, 1.0 - EPSILON)
        losses = -np.einsum("ij,ij->i", y_true, np.log(q))
        if scale is not None:
            inside = np.where(q == work, y_true, 0.0)
            np.divide(inside, q, out=q)
            np.subtract(inside.sum(axis=1, keepdims=True), q, out=work)
            work *= scale / sums
        return losses


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy with integer labels: ``-log(q[label])`` over the last axis.

    Labels have the shape (...) of the predictions (..., K) without their last axis, or (..., 1);
    they are whole numbers in [0, K), of an integer or floating-point dtype. Probabilities and
    logits are as in `CategoricalCrossentropy`.

    Parameters
    ----------
    from_logits
        Predictions are logits, not probabilities.
    reduction, name
        See `Loss`.

    Raises
    ------
    ValueError
        By every call: a label is out of range (the label, the range and its row are named), or no
        whole number, or the shape does not fit.
    """

    config_names = ("from_logits",)
    unsupported_config_names: ClassVar[tuple[str, ...]] = ("ignore_class",)
    link = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        *,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        self.from_logits = bool(from_logits)

    def targets(self, y_true: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """See `Loss.targets`."""
        given = np.asarray(y_true)
        if given.shape != shape[:-1] and given.shape != (*shape[:-1], 1):
            one_hot = " One-hot labels need `CategoricalCrossentropy`."
            raise ValueError(
                f"`y_true` must hold one integer label per sample, shape {shape[:-1]}."
                f"{one_hot if given.shape == shape else ''} "
                f"Received: y_true of shape {given.shape}"
            )
        return integer_labels(given.reshape(-1), shape[-1])

    def per_row(
        self, y_true: Array, y_pred: Array, *, from_logits: bool, work: Array, scale: float | None
    ) -> Array:
        """See `Loss.per_row`."""
        rows = np.arange(len(y_true))
        if from_logits:
            highest = _row_max(y_pred)
            picked = y_pred[rows, y_true] - highest[:, 0]
            np.subtract(y_pred, highest, out=work)
            np.exp(work, out=work)
            sums = work.sum(axis=1)
            losses: Array = np.log(sums) - picked
            if scale is not None:
                work *= (scale / sums)[:, None]
                work[rows, y_true] -= scale
            return losses
        sums = y_pred.sum(axis=1)
        picked = y_pred[rows, y_true]
        q = picked / sums
        clipped = np.clip(q, EPSILON, 1.0 - EPSILON)
        losses = -np.log(clipped)
        if scale is not None:
            inside = q == clipped
            work[...] = np.where(inside, scale / sums, 0.0)[:, None]
            work[rows, y_true] -= np.where(inside, scale / picked, 0.0)
        return losses


def integer_labels(labels: Array, classes: int) -> Array:
    """Return `labels`, shape (rows,), as integers; raise where one is not in [0, classes)."""
    if labels.dtype.kind not in "biuf":
        raise TypeError(
            f"`y_true` must hold whole numbers. Received: y_true of dtype {labels.dtype}"
        )
    if not labels.size:
        return labels.astype(np.intp)
    # NaN passes neither comparison.
    if not (labels.min() >= 0 and labels.max() < classes):
        row = np.flatnonzero(~((labels >= 0) & (labels < classes)))[0]
        raise ValueError(
            f"Labels must be in [0, {classes}) for predictions of {classes} classes. "
            f"Received: y_true={labels[row]} in row {row}"
        )
    integers = labels.astype(np.intp, copy=False)
    if labels.dtype.kind == "f" and not np.array_equal(integers, labels):
        row = np.flatnonzero(integers != labels)[0]
        raise ValueError(
            f"Labels must be whole numbers. Received: y_true={labels[row]} in row {row}"
        )
    return integers


def _row_max(y_pred: Array) -> Array:
    # `initial` gives the maximum over no class a value.
    highest: Array = y_pred.max(axis=1, keepdims=True, initial=-np.inf)
    return highest


def categorical_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Return the cross-entropy of each sample; see `CategoricalCrossentropy`."""
    return CategoricalCrossentropy(from_logits, label_smoothing, axis).call(y_true, y_pred)


def sparse_categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False
) -> Array:
    """Return the cross-entropy of each sample; see `SparseCategoricalCrossentropy`."""
    return SparseCategoricalCrossentropy(from_logits).call(y_true, y_pred)
