"""Cross-entropies that count what is already right less: focal losses of Lin et al. (2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_number
from fusednn.losses.base import EPSILON, Array, Loss
from fusednn.losses.binary import BinaryCrossentropy
from fusednn.losses.categorical import CategoricalCrossentropy
from fusednn.losses.scratch import Scratch, blocks_of_rows


class ByBlocks(Loss):
    """Base of losses whose many intermediate results are made for some rows at a time."""

    def block(
        self, y_true: Array, y_pred: Array, work: Array, from_logits: bool, scale: float | None
    ) -> Array:
        """`Loss.per_row` of some rows; `work` is where the gradient of these goes."""
        raise NotImplementedError(f"{type(self).__name__} must define `block`.")

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
        losses = scratch.vector("losses")
        for rows in blocks_of_rows(y_pred.shape):
            losses[rows] = self.block(y_true[rows], y_pred[rows], work[rows], from_logits, scale)
        return losses


class BinaryFocalCrossentropy(ByBlocks, BinaryCrossentropy):
    """Mean over the last axis of ``w * (1 - q)**gamma * bce``, with ``q = t * p + (1 - t)(1 - p)``.

    bce is the loss of `BinaryCrossentropy`, whose targets it has, and w is 1, or with
    `apply_class_balancing` ``t * alpha + (1 - t) * (1 - alpha)``. Of logits the sigmoid is taken,
    as in Keras: beyond 16 or so the gradient is 0, as with probabilities that are clipped.

    Parameters
    ----------
    apply_class_balancing
        Whether the two classes have weights.
    alpha
        In [0, 1], that of class 1.
    gamma
        >= 0; at 0 nothing is focused.
    from_logits, label_smoothing, axis
        See `BinaryCrossentropy`.
    reduction, name, dtype
        See `Loss`.
    """

    config_names: ClassVar[tuple[str, ...]] = ("apply_class_balancing", "alpha", "gamma")

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)
        self.apply_class_balancing = bool(apply_class_balancing)
        self.alpha = check_number("alpha", alpha, minimum=0, maximum=1)
        self.gamma = check_number("gamma", gamma, minimum=0)

    def block(
        self, y_true: Array, y_pred: Array, work: Array, from_logits: bool, scale: float | None
    ) -> Array:
        """See `ByBlocks.block`."""
        features = max(y_pred.shape[1], 1)
        p = 1 / (1 + np.exp(-y_pred)) if from_logits else y_pred
        kept = np.clip(p, EPSILON, 1 - EPSILON)
        other = 1 - y_true
        entropy = -(y_true * np.log(kept) + other * np.log(1 - kept))
        missed = 1 - (y_true * p + other * (1 - p))
        weight = missed**self.gamma
        if self.apply_class_balancing:
            balance = y_true * self.alpha + other * (1 - self.alpha)
            weight *= balance
        if scale is not None:
            slope = np.where(kept == p, (kept - y_true) / (kept * (1 - kept)), 0) * weight
            if self.gamma:
                turn = self.gamma * missed ** (self.gamma - 1) * (other - y_true)
                slope += (turn * balance if self.apply_class_balancing else turn) * entropy
            if from_logits:
                slope *= p * (1 - p)
            np.multiply(slope, scale / features, out=work)
        entropy *= weight
        losses: Array = entropy.sum(axis=1)
        losses /= features
        return losses


class CategoricalFocalCrossentropy(ByBlocks, CategoricalCrossentropy):
    """``-sum(alpha * (1 - q)**gamma * t * log(q))`` over the last axis, with ``q = p / sum(p)``.

    q is clipped to [1e-7, 1 - 1e-7]. Labels t are those of `CategoricalCrossentropy`. Of logits
    the softmax is taken, as in Keras.

    Parameters
    ----------
    alpha
        >= 0: a weight of all classes, or a sequence of one for each.
    gamma
        >= 0; at 0 nothing is focused.
    from_logits, label_smoothing, axis
        See `CategoricalCrossentropy`.
    reduction, name, dtype
        See `Loss`.
    """

    config_names: ClassVar[tuple[str, ...]] = ("alpha", "gamma")

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis, reduction, name, dtype)
        self.alpha: float | list[float]
        if isinstance(alpha, Sequence) and not isinstance(alpha, str):
            self.alpha = [check_number("alpha", each, minimum=0) for each in alpha]
        else:
            self.alpha = check_number("alpha", alpha, minimum=0)
        self.gamma = check_number("gamma", gamma, minimum=0)

    def block(
        self, y_true: Array, y_pred: Array, work: Array, from_logits: bool, scale: float | None
    ) -> Array:
        """See `ByBlocks.block`."""
        weights = np.asarray(self.alpha, y_pred.dtype)
        if weights.ndim and weights.size != y_pred.shape[1]:
            raise ValueError(
                f"`alpha` must hold one weight for each of {y_pred.shape[1]} classes. "
                f"Received: {weights.size}"
            )
        p = np.exp(y_pred - y_pred.max(axis=1, keepdims=True)) if from_logits else y_pred
        sums = p.sum(axis=1, keepdims=True)
        shares = p / sums
        q = np.clip(shares, EPSILON, 1 - EPSILON)
        logarithms = np.log(q)
        weights = weights * y_true
        focus = (1 - q) ** self.gamma
        losses: Array = -(weights * focus * logarithms).sum(axis=1)
        if scale is not None:
            slope = -focus / q
            if self.gamma:
                slope += self.gamma * (1 - q) ** (self.gamma - 1) * logarithms
            slope *= weights
            slope[q != shares] = 0
            slope -= (slope * shares).sum(axis=1, keepdims=True)
            # Through the division by the sum; of logits, through exp as well.
            slope = slope * shares if from_logits else slope / sums
            np.multiply(slope, scale, out=work)
        return losses


def binary_focal_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Return the loss of each sample; see `BinaryFocalCrossentropy`."""
    loss = BinaryFocalCrossentropy(
        apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis
    )
    return loss.call(y_true, y_pred)


def categorical_focal_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Return the loss of each sample; see `CategoricalFocalCrossentropy`."""
    loss = CategoricalFocalCrossentropy(alpha, gamma, from_logits, label_smoothing, axis)
    return loss.call(y_true, y_pred)
