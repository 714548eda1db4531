"""What all losses share: targets, reduction, the value with its gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusednn._serialization import Configurable, snake_case
from fusednn.losses.scratch import Scratch

Array = NDArray[Any]

#: Probabilities are clipped to [EPSILON, 1 - EPSILON] before a logarithm, as in Keras.
EPSILON = 1e-7


_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


class Loss(Configurable):
    """Base class: a function of targets and predictions, one value per sample, reduced to one.

    Predictions have any shape (..., K); a sample's loss is over the last axis. Predictions are
    float32 or float64, others are converted to float32; everything is computed in that dtype,
    except that samples are summed in float64.

    A new loss is a subclass with `call`, as in Keras, which returns a loss for each sample, and
    with `gradient`, because there is no differentiation here:

    >>> class Quartic(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ((y_pred - y_true) ** 4).mean(axis=-1)
    ...     def gradient(self, y_true, y_pred):
    ...         return 4 * (y_pred - y_true) ** 3 / y_pred.shape[-1]

    Without `gradient` it can be evaluated, not trained with. What is written with `per_row`
    instead allocates nothing from batch to batch.

    Parameters
    ----------
    name : str, optional
        Defaults to the class name in snake case.
    reduction : {"sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"} or None
        The mean over samples (both first names; Keras' default), the mean that divides by the sum
        of the weights instead of the number of samples, or the sum. "none" or None: a call returns
        the losses of all samples; models refuse such a loss.
    dtype : {"float32", "float64"}, optional
        What predictions are converted to in calls; by default they keep their type. A model
        computes its loss in its own type.
    """

    config_names: ClassVar[tuple[str, ...]] = ("name", "reduction")

    #: Activation that this loss takes the place of where it is given logits: None, "sigmoid" or
    #: "softmax".
    link: ClassVar[str | None] = None
    #: Whether predictions are logits, unless `value_and_gradient` is told otherwise.
    from_logits: bool = False

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: str | None = None,
    ) -> None:
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"`reduction` must be one of {', '.join(map(str, _REDUCTIONS))}. "
                f"Received: reduction={reduction!r}"
            )
        if dtype not in (None, "float32", "float64"):
            raise ValueError(f"`dtype` must be float32 or float64. Received: dtype={dtype!r}")
        self.dtype = dtype
        self.reduction = reduction
        self.name = name or snake_case(type(self).__name__)

    # What a subclass defines.

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
        """Return the loss of each row, and write its gradient.

        Parameters
        ----------
        y_true
            What `targets` returned.
        y_pred
            Predictions, shape (rows, K).
        from_logits
            Whether they are logits; only ever True where `link` is set.
        work
            Shape (rows, K), C-contiguous. It may be `y_pred` itself: read that first. Where
            `scale` is given, the gradient times `scale` is to be left here; else it is scratch.
        scale
            Factor of the gradient, or None.
        scratch
            Arrays for intermediate results, kept from batch to batch.

        Returns
        -------
        ndarray
            Shape (rows,); it may be one of `scratch`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `per_row`.")

    def targets(self, y_true: Array, shape: tuple[int, ...], scratch: Scratch) -> Array:
        """Check targets against predictions of `shape`; return them as (rows, K), of their dtype.

        An axis of length 1 at the end may be missing on either side, as in Keras; nothing else
        is broadcast (Keras lets (N, 1) meet (N, K) in the mean squared error).
        """
        targets = y_true
        if targets.shape != shape and (*targets.shape, 1) != shape and targets.shape != (*shape, 1):
            raise ValueError(
                f"`y_true` must have the shape of `y_pred`, {shape}. "
                f"Received: y_true of shape {targets.shape}"
            )
        targets = targets.reshape(scratch.rows, scratch.width)
        if targets.dtype != scratch.dtype:
            if targets.dtype.kind not in "biufV":  # V: bfloat16
                raise TypeError(
                    f"`y_true` must hold real numbers. Received: y_true of dtype {targets.dtype}"
                )
            converted = scratch.matrix("targets")
            np.copyto(converted, targets, casting="unsafe")
            return converted
        return targets

    # What a model calls.

    def evaluate(
        self,
        y_true: Array,
        y_pred: Array,
        scratch: Scratch,
        *,
        from_logits: bool,
        grad: Array | None,
        weights: Array | None = None,
    ) -> float:
        """Return the reduced loss of a batch, without any check but those of the targets.

        Parameters
        ----------
        y_true
            Targets; see the class.
        y_pred
            Predictions, shape (..., K), float32 or float64.
        scratch
            Arrays for these predictions, seen as (rows, K): what it holds is reused.
        from_logits
            Whether `y_pred` holds logits.
        grad
            Where the gradient goes, C-contiguous, of the shape and dtype of `y_pred`; None: it is
            not computed.
        weights
            Factors of the samples' losses, shape (rows,), or None.

        Notes
        -----
        Floating-point warnings are the caller's to switch off.
        """
        if type(self).call is not Loss.call:
            scratch.best = None
            return value_of_call(self, y_true, y_pred, grad, weights)
        losses = self._losses(y_true, y_pred, scratch, from_logits, grad, weights)
        return scratch.total(losses) / self._divisor(scratch, weights)

    @property
    def reduces(self) -> bool:
        """Whether the losses of samples become one number, as models need it."""
        return self.reduction not in ("none", None)

    def _divisor(self, scratch: Scratch, weights: Array | None) -> float:
        if self.reduction == "sum":
            return 1.0
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            return float(weights.sum()) or 1.0
        return float(max(scratch.rows, 1))

    def _losses(
        self,
        y_true: Array,
        y_pred: Array,
        scratch: Scratch,
        from_logits: bool,
        grad: Array | None,
        weights: Array | None,
    ) -> Array:
        scratch.best = None
        rows, width = scratch.rows, scratch.width
        targets = self.targets(y_true, y_pred.shape, scratch)
        if y_pred.ndim != 2:
            y_pred = y_pred.reshape(rows, width)
            grad = None if grad is None else grad.reshape(rows, width)
        scale = None
        if grad is not None:
            scale = 1.0 / self._divisor(scratch, weights)
        losses = self.per_row(
            targets,
            y_pred,
            from_logits=from_logits,
            work=scratch.matrix("work") if grad is None else grad,
            scale=scale,
            scratch=scratch,
        )
        if weights is not None:
            losses *= weights
            if grad is not None:
                grad *= weights[:, None]
        return losses

    # What a user calls.

    def __call__(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Any:
        """Return the reduced loss, of samples that are multiplied by their weights.

        Returns
        -------
        float, or ndarray where `reduction` is "none"

        Raises
        ------
        ValueError, TypeError
            The targets do not fit the predictions; see the class.
        """
        predictions = _predictions(y_pred, self.dtype)
        scratch = Scratch.of(predictions.shape, predictions.dtype)
        weights = row_weights(sample_weight, predictions.shape, scratch)
        if not self.reduces:
            losses = np.asarray(self.call(y_true, predictions))
            if weights is None:
                return losses
            return losses * weights.reshape(predictions.shape[:-1])
        with np.errstate(all="ignore"):
            return self.evaluate(
                np.asarray(y_true),
                predictions,
                scratch,
                from_logits=self.from_logits,
                grad=None,
                weights=weights,
            )

    def call(self, y_true: ArrayLike, y_pred: ArrayLike) -> Array:
        """Return the loss of each sample: shape (...) for predictions of shape (..., K)."""
        predictions = _predictions(y_pred, self.dtype)
        return self.of_samples(
            np.asarray(y_true), predictions, Scratch.of(predictions.shape, predictions.dtype)
        )

    def of_samples(self, y_true: Array, y_pred: Array, scratch: Scratch) -> Array:
        """As `call`, for float32 or float64 predictions; the result may be one of `scratch`."""
        with np.errstate(all="ignore"):
            losses = self._losses(y_true, y_pred, scratch, self.from_logits, None, None)
        return losses.reshape(y_pred.shape[:-1])

    def gradient(self, y_true: Array, y_pred: Array) -> Array:
        """Return the gradient of ``call(y_true, y_pred).sum()`` with respect to `y_pred`.

        A subclass with a `call` of its own defines it; the losses of this package have their
        gradients in `value_and_gradient`, times the factor of the reduction.

        Parameters
        ----------
        y_true, y_pred
            As `call` gets them; the result has the shape of `y_pred`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `gradient`: gradients are written by hand."
        )

    def value_and_gradient(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        from_logits: bool | None = None,
        out: Array | None = None,
    ) -> tuple[float, Array]:
        """Return the reduced loss and its gradient with respect to `y_pred`.

        Parameters
        ----------
        y_true
            Targets; see the class.
        y_pred
            Predictions, shape (..., K).
        sample_weight
            A factor for each sample, shape (...) or that of the first axis; None: all 1.
        from_logits
            Whether `y_pred` holds logits; None means as this loss was made.
        out
            Where the gradient goes: C-contiguous, of the shape and dtype of `y_pred`, apart from
            `y_true`; it may be `y_pred` itself. None allocates it.

        Raises
        ------
        ValueError, TypeError
            The targets or `out` do not fit, `reduction` is "none", or `from_logits` is True and the
            loss has no such form.

        Notes
        -----
        A prediction that is not finite gives a loss that is not finite, without a warning.
        """
        if not self.reduces:
            raise ValueError(
                f"`reduction` of the loss '{self.name}' must not be 'none' for a gradient: it is "
                "that of one number. Take 'sum'."
            )
        predictions = _predictions(y_pred, self.dtype)
        shape = predictions.shape
        logits = self.from_logits if from_logits is None else bool(from_logits)
        if logits and self.link is None:
            raise ValueError(
                f"`from_logits` must be False for {type(self).__name__}. "
                f"Received: from_logits={from_logits}"
            )
        targets = np.asarray(y_true)
        if out is None:
            out = np.empty(shape, predictions.dtype)
        else:
            _check_out(out, predictions, targets)
        scratch = Scratch.of(shape, predictions.dtype)
        weights = row_weights(sample_weight, shape, scratch)
        with np.errstate(all="ignore"):
            value = self.evaluate(
                targets, predictions, scratch, from_logits=logits, grad=out, weights=weights
            )
        return value, out


def value_of_call(
    loss: Loss, y_true: Array, y_pred: Array, grad: Array | None, weights: Array | None
) -> float:
    """`Loss.evaluate` of a loss with a `call` of its own."""
    if (*y_true.shape, 1) == y_pred.shape:
        y_true = y_true[..., None]
    losses = np.asarray(loss.call(y_true, y_pred))
    axes = losses.ndim
    if not axes or losses.shape != y_pred.shape[:axes]:
        raise ValueError(
            f"`call` of the loss '{loss.name}' must return a number for each sample, of the first "
            f"axes of `y_pred`, {y_pred.shape}. Received: shape {losses.shape}"
        )
    factors: Any = np.ones((1,) * y_pred.ndim, y_pred.dtype)
    if weights is not None:
        factors = weights.reshape(*y_pred.shape[:-1], 1)
        # One weight for each loss: of what it sums over, those of the first place.
        factors = factors[(..., *[slice(0, 1)] * (y_pred.ndim - min(axes, y_pred.ndim - 1)))]
    own = factors.reshape(factors.shape[:axes]) if axes < y_pred.ndim else factors
    if loss.reduction == "sum":
        divisor = 1.0
    elif loss.reduction == "mean_with_sample_weight":
        divisor = float(np.broadcast_to(own, losses.shape).sum()) or 1.0
    else:
        divisor = float(max(losses.size, 1))
    if grad is not None:
        slope = np.asarray(loss.gradient(y_true, y_pred))
        if slope.shape != y_pred.shape:
            raise ValueError(
                f"`gradient` of the loss '{loss.name}' must have the shape of `y_pred`, "
                f"{y_pred.shape}. Received: shape {slope.shape}"
            )
        np.multiply(slope, factors / divisor, out=grad, casting="same_kind")
    return float((losses * own).sum(dtype=np.float64)) / divisor


def row_weights(
    sample_weight: ArrayLike | None, shape: tuple[int, ...], scratch: Scratch
) -> Array | None:
    """Return weights for predictions of `shape`, (..., K), as (rows,); None for None.

    Raises
    ------
    ValueError
        There is neither one for each sample of the first axis nor one for each row.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, scratch.dtype).reshape(-1)
    if weights.size == scratch.rows:
        return weights
    if weights.size != shape[0]:
        raise ValueError(
            f"`sample_weight` must hold one weight for each of {shape[0]} samples. "
            f"Received: shape {np.shape(sample_weight)}"
        )
    return np.repeat(weights, scratch.rows // shape[0])


def _predictions(y_pred: ArrayLike, dtype: str | None) -> Array:
    predictions = np.asarray(y_pred, dtype)
    if predictions.dtype not in (np.float32, np.float64):
        predictions = predictions.astype(np.float32)
    if predictions.ndim == 0:
        raise ValueError("`y_pred` must have at least one axis. Received: a scalar")
    return predictions


def _check_out(out: Array, predictions: Array, targets: Array) -> None:
    if out.shape != predictions.shape or out.dtype != predictions.dtype:
        raise ValueError(
            f"`out` must have the shape {predictions.shape} and the dtype {predictions.dtype} of "
            f"`y_pred`. Received: shape {out.shape}, dtype {out.dtype}"
        )
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(
            "`out` must be C-contiguous and writeable. Received: "
            f"C-contiguous: {out.flags.c_contiguous}, writeable: {out.flags.writeable}"
        )
    same = out.ctypes.data == predictions.ctypes.data and out.strides == predictions.strides
    if np.may_share_memory(out, targets) or (not same and np.may_share_memory(out, predictions)):
        raise ValueError("`out` must be `y_pred` itself, or lie apart from it and from `y_true`.")
