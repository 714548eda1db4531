"""Losses of whole rows: angles, distributions, margins between classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fusednn.losses.axis import check_axis
from fusednn.losses.base import EPSILON, Array, Loss
from fusednn.losses.plain import PlainLoss
from fusednn.losses.scratch import Scratch


class CosineSimilarity(Loss):
    """``-sum(t * p) / (norm(t) * norm(p))`` over the last axis; norms are at least 1e-7.

    Parameters
    ----------
    axis
        Must be -1.
    reduction, name, dtype
        See `Loss`.
    """

    config_names: ClassVar[tuple[str, ...]] = ("axis",)

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cosine_similarity",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.axis = check_axis(axis)

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
        inverse_t = _inverse_norm(y_true, scratch.vector("inverse of t"))
        inverse_p = _inverse_norm(y_pred, scratch.vector("inverse of p"))
        losses = np.einsum("ij,ij->i", y_true, y_pred, out=scratch.vector("losses"))
        losses *= inverse_t
        losses *= inverse_p
        np.negative(losses, out=losses)
        if scale is not None:
            # -(v - u (u . v)) / norm(p), where u and v are p and t of length 1; where norm(p) is
            # below 1e-7 it is a constant.
            along = scratch.vector("along")
            np.multiply(losses, inverse_p, out=along)
            short = np.greater_equal(inverse_p, 1 / EPSILON, out=scratch.vector("short", np.bool_))
            np.copyto(along, 0, where=short)
            turned = np.multiply(y_pred, along[:, None], out=scratch.matrix("turned"))
            np.multiply(y_true, inverse_t[:, None], out=work)
            work += turned
            np.multiply(inverse_p, -scale, out=along)
            work *= along[:, None]
        return losses


class KLDivergence(PlainLoss):
    """``sum(t * log(t / p))`` over the last axis, both clipped to [1e-7, 1] as in Keras.

    The gradient is 0 through what was clipped. (PyTorch's `KLDivLoss` takes ``log(p)``.)

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
        t = np.clip(y_true, EPSILON, 1, out=scratch.matrix("t"))
        p = np.clip(y_pred, EPSILON, 1, out=scratch.matrix("p"))
        ratio = np.divide(t, p, out=scratch.matrix("ratio"))
        logarithm = np.log(ratio, out=scratch.matrix("logarithm"))
        losses: Array = np.einsum("ij,ij->i", t, logarithm, out=scratch.vector("losses"))
        if scale is not None:
            clipped = np.not_equal(p, y_pred, out=scratch.matrix("clipped", np.bool_))
            np.multiply(ratio, -scale, out=work)
            np.copyto(work, 0, where=clipped)
        return losses


class CategoricalHinge(PlainLoss):
    """``max(0, 1 + max((1 - t) * p) - sum(t * p))`` over the last axis, with one-hot t.

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
        if not scratch.width:
            raise ValueError("`y_pred` must have at least one class. Received: none")
        losses = scratch.vector("losses")
        positive = np.einsum("ij,ij->i", y_true, y_pred, out=scratch.vector("positive"))
        others = np.subtract(1, y_true, out=scratch.matrix("others"))
        products = np.multiply(others, y_pred, out=scratch.matrix("products"))
        best = products.argmax(axis=1, out=scratch.vector("rival", np.intp))
        places = scratch.places(best)
        products.take(places, out=losses, mode="clip")
        losses -= positive
        losses += 1
        np.maximum(losses, 0, out=losses)
        if scale is not None:
            active = np.sign(losses, out=scratch.vector("active"))
            active *= scale
            np.multiply(y_true, active[:, None], out=work)
            np.negative(work, out=work)
            others.take(places, out=positive, mode="clip")
            positive *= active
            flat = work.reshape(-1)
            positive += flat.take(places, out=scratch.vector("there"), mode="clip")
            flat[places] = positive
        return losses


def _inverse_norm(x: Array, out: Array) -> Array:
    np.einsum("ij,ij->i", x, x, out=out)
    np.sqrt(out, out=out)
    np.reciprocal(out, out=out)
    return np.minimum(out, 1 / EPSILON, out=out)


def cosine_similarity(y_true: ArrayLike, y_pred: ArrayLike, axis: int = -1) -> Array:
    """Return the negative cosine of each sample; see `CosineSimilarity`."""
    return CosineSimilarity(axis).call(y_true, y_pred)


def kl_divergence(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the divergence of each sample; see `KLDivergence`."""
    return KLDivergence().call(y_true, y_pred)


def categorical_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Return the hinge loss of each sample; see `CategoricalHinge`."""
    return CategoricalHinge().call(y_true, y_pred)
