"""The cross-entropy over classes, with one-hot or integer labels, stable from logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fusednn.losses.axis import check_axis
from fusednn.losses.base import EPSILON, Array, Loss
from fusednn.losses.crossentropy import Crossentropy
from fusednn.losses.scratch import Scratch


class CategoricalCrossentropy(Crossentropy):
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
    reduction, name, dtype
        See `Loss`.
    """

    link = "softmax"

    def targets(self, y_true: Array, shape: tuple[int, ...], scratch: Scratch) -> Array:
        """See `Loss.targets`."""
        if y_true.shape != shape:
            integers = " Integer labels need `SparseCategoricalCrossentropy`."
            hint = integers if y_true.shape in (shape[:-1], (*shape[:-1], 1)) else ""
            raise ValueError(
                f"`y_true` must be one-hot, of the shape of `y_pred`, {shape}.{hint} "
                f"Received: y_true of shape {y_true.shape}"
            )
        if not shape[-1]:
            raise ValueError(f"`y_pred` must have at least one class. Received: shape {shape}")
        targets = super().targets(y_true, shape, scratch)
        return self._smoothed(targets, 1.0 / scratch.width, scratch)

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
        ones = scratch.ones()
        picked, sums = scratch.vector("picked"), scratch.vector("sums")
        if from_logits:
            _shift(y_pred, work, scratch)
            np.einsum("ij,ij->i", y_true, work, out=picked)
            np.exp(work, out=work)
            work.dot(ones, out=sums)
            mass = y_true.dot(ones, out=scratch.vector("mass"))
            losses = np.log(sums, out=scratch.vector("losses"))
            losses *= mass
            losses -= picked
            if scale is not None:
                mass /= sums
                work *= mass[:, None]
                work -= y_true
                work *= scale
            return losses
        np.dot(y_pred, ones, out=sums)
        np.divide(y_pred, sums[:, None], out=work)
        q = np.clip(work, EPSILON, 1.0 - EPSILON, out=scratch.matrix("q"))
        logarithms = np.log(q, out=scratch.matrix("logarithms"))
        losses = np.einsum("ij,ij->i", y_true, logarithms, out=scratch.vector("losses"))
        np.negative(losses, out=losses)
        if scale is not None:
            # The labels where nothing was clipped.
            inside = logarithms
            np.copyto(inside, np.equal(q, work, out=scratch.matrix("kept", np.bool_)))
            inside *= y_true
            np.divide(inside, q, out=q)
            inside.dot(ones, out=picked)
            np.subtract(picked[:, None], q, out=work)
            np.divide(scale, sums, out=sums)
            work *= sums[:, None]
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
    ignore_class : int, optional
        Rows with this label, often -1 or 255, do not count: their loss and gradient are 0, and a
        mean is over the others alone (PyTorch's `ignore_index`), or 0 where there is none.
    axis
        Must be -1.
    reduction, name, dtype
        See `Loss`.

    Raises
    ------
    ValueError
        By every call: a label is out of range (the label, the range and its row are named), or no
        whole number, or the shape does not fit.
    """

    config_names = ("from_logits", "ignore_class", "axis")
    link = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        whole = isinstance(ignore_class, (int, np.integer)) and not isinstance(ignore_class, bool)
        if ignore_class is not None and not whole:
            raise ValueError(
                "`ignore_class` must be an integer or None. "
                f"Received: ignore_class={ignore_class!r}"
            )
        self.from_logits = bool(from_logits)
        self.ignore_class = None if ignore_class is None else int(ignore_class)
        self.axis = check_axis(axis)

    def targets(self, y_true: Array, shape: tuple[int, ...], scratch: Scratch) -> Array:
        """See `Loss.targets`."""
        if y_true.shape != shape[:-1] and y_true.shape != (*shape[:-1], 1):
            one_hot = " One-hot labels need `CategoricalCrossentropy`."
            raise ValueError(
                f"`y_true` must hold one integer label per sample, shape {shape[:-1]}."
                f"{one_hot if y_true.shape == shape else ''} "
                f"Received: y_true of shape {y_true.shape}"
            )
        labels = y_true.reshape(-1)
        if self.ignore_class is not None:
            ignored = np.equal(labels, self.ignore_class, out=scratch.vector("ignored", np.bool_))
            if labels.dtype.kind in "biuf":
                labels = np.where(ignored, labels.dtype.type(0), labels)
        return integer_labels(labels, shape[-1], scratch)

    def _divisor(self, scratch: Scratch, weights: Array | None) -> float:
        if self.ignore_class is None or self.reduction == "sum":
            return super()._divisor(scratch, weights)
        counted = ~scratch.vector("ignored", np.bool_)
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            return float(weights[counted].sum()) or 1.0
        return float(np.count_nonzero(counted)) or 1.0

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
        losses = self._per_label(y_true, y_pred, from_logits, work, scale, scratch)
        if self.ignore_class is not None:
            ignored = scratch.vector("ignored", np.bool_)
            losses[ignored] = 0.0
            if scale is not None:
                work[ignored] = 0.0
        return losses

    @staticmethod
    def _per_label(
        y_true: Array,
        y_pred: Array,
        from_logits: bool,
        work: Array,
        scale: float | None,
        scratch: Scratch,
    ) -> Array:
        flat = work.reshape(-1)
        picked, sums = scratch.vector("picked"), scratch.vector("sums")
        losses = scratch.vector("losses")
        if from_logits:
            _shift(y_pred, work, scratch)
            places = scratch.places(y_true)
            flat.take(places, out=picked, mode="clip")
            np.exp(work, out=work)
            work.dot(scratch.ones(), out=sums)
            np.log(sums, out=losses)
            losses -= picked
            if scale is not None:
                np.divide(scale, sums, out=sums)
                work *= sums[:, None]
                flat.take(places, out=picked, mode="clip")
                picked -= scale
                flat[places] = picked
            return losses
        np.dot(y_pred, scratch.ones(), out=sums)
        places = scratch.places(y_true)
        y_pred.take(places, out=picked, mode="clip")
        q = np.divide(picked, sums, out=scratch.vector("q"))
        clipped = np.clip(q, EPSILON, 1.0 - EPSILON, out=scratch.vector("clipped"))
        np.log(clipped, out=losses)
        np.negative(losses, out=losses)
        if scale is not None:
            outside = np.not_equal(q, clipped, out=scratch.vector("outside", np.bool_))
            np.divide(scale, sums, out=sums)
            np.divide(scale, picked, out=picked)
            np.copyto(sums, 0.0, where=outside)
            np.copyto(picked, 0.0, where=outside)
            np.copyto(work, sums[:, None])
            np.subtract(sums, picked, out=picked)
            flat[places] = picked
        return losses


def integer_labels(labels: Array, classes: int, scratch: Scratch) -> Array:
    """Return `labels`, shape (rows,), as integers; raise where one is not in [0, classes)."""
    kind = labels.dtype.kind
    if kind not in "biuf":
        raise TypeError(
            f"`y_true` must hold whole numbers. Received: y_true of dtype {labels.dtype}"
        )
    integers = labels
    if labels.dtype != np.intp:
        integers = scratch.vector("labels", np.intp)
        np.copyto(integers, labels, casting="unsafe")
    if integers.size:
        # Read as unsigned a negative number is larger than any class, and NaN was made one.
        unsigned = integers.view(np.uintp)
        if unsigned[unsigned.argmax()] >= classes:
            row = np.flatnonzero(~((labels >= 0) & (labels < classes)))[0]
            raise ValueError(
                f"Labels must be in [0, {classes}) for predictions of {classes} classes. "
                f"Received: y_true={labels[row]} in row {row}"
            )
    if kind == "f" and not np.array_equal(integers, labels):
        row = np.flatnonzero(integers != labels)[0]
        raise ValueError(
            f"Labels must be whole numbers. Received: y_true={labels[row]} in row {row}"
        )
    return integers


def _shift(y_pred: Array, work: Array, scratch: Scratch) -> None:
    """Write ``y_pred - max(y_pred)``, row by row, to `work`."""
    best = y_pred.argmax(axis=1, out=scratch.vector("best", np.intp))
    # `argmax` and `take` run at vector speed, `max` along a row does not.
    # mode="clip": with "raise", NumPy would write to a buffer first and copy it.
    highest = y_pred.take(scratch.places(best), out=scratch.vector("highest"), mode="clip")
    np.subtract(y_pred, highest[:, None], out=work)
    scratch.best = best


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
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Array:
    """Return the cross-entropy of each sample; see `SparseCategoricalCrossentropy`."""
    loss = SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis)
    return loss.call(y_true, y_pred)
