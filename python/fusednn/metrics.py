"""Metrics with Keras' names: running means over the batches of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusednn._arguments import check_number
from fusednn._serialization import Configurable, Registry, serialize, snake_case

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "MeanOverSamples",
    "MeanSquaredError",
    "Metric",
    "PlaceAccuracy",
    "SparseCategoricalAccuracy",
    "get",
    "resolve_accuracy",
    "serialize",
]

Array = NDArray[Any]


class Metric(Configurable):
    """Base class: a number that is accumulated batch by batch.

    A new metric is a subclass with `update_state`, `result` and `reset_state`.

    Parameters
    ----------
    name : str, optional
        Key in the logs; defaults to the class name in snake case.
    """

    config_names: ClassVar[tuple[str, ...]] = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name or snake_case(type(self).__name__)

    def update_state(self, *values: ArrayLike) -> None:
        """Take in one batch; metrics of predictions are given `y_true` and `y_pred`."""
        raise NotImplementedError(f"{type(self).__name__} must define `update_state`.")

    def result(self) -> float:
        """Return the value over everything since `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} must define `result`.")

    def reset_state(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} must define `reset_state`.")

    def __call__(self, *values: ArrayLike) -> float:
        """`update_state`, then `result`."""
        self.update_state(*values)
        return self.result()


class Mean(Metric):
    """Mean of all values; 0 where there was none, as in Keras.

    Sums are float64 (Keras: float32), so that the mean of millions of samples stays exact.

    Parameters
    ----------
    name
        See `Metric`.

    Attributes
    ----------
    total : float
        Sum over the samples, each the mean of its values.
    count : int
        Number of samples: the length of the first axis, 1 for a scalar.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self._arrays: dict[str, Array] = {}
        self.reset_state()

    def update_state(self, *values: ArrayLike) -> None:
        """Take in ``update_state(values)``: a number, or an array of samples on the first axis."""
        if len(values) != 1:
            raise TypeError(
                f"`update_state` of {type(self).__name__} takes one argument, `values`. "
                f"Received: {len(values)} arguments"
            )
        self.add_samples(np.asarray(values[0]))

    def add_samples(self, values: Array) -> None:
        """Add one sample for each element of the first axis of `values`."""
        samples = len(values) if values.ndim else 1
        if not values.size:
            return
        if values.dtype == np.bool_:
            total = float(np.count_nonzero(values))
        else:
            wide = self._kept("wide", values.shape, np.float64)
            np.copyto(wide, values, casting="unsafe")
            total = float(np.add.reduce(wide, axis=None))
        self.total += total * samples / values.size
        self.count += samples

    def _kept(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Array for an intermediate result, made anew only where the shape or type changes."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array

    def result(self) -> float:
        """See `Metric.result`."""
        return self.total / self.count if self.count else 0.0

    def reset_state(self) -> None:
        """See `Metric.reset_state`."""
        self.total = 0.0
        self.count = 0


class MeanOverSamples(Mean):
    """Base class of means of a function of targets and predictions.

    A new metric is a subclass with a method `per_sample`.
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """Return the values to average, samples on the first axis."""
        raise NotImplementedError(f"{type(self).__name__} must define `per_sample`.")

    def update_state(self, *values: ArrayLike) -> None:
        """Take in one batch: ``update_state(y_true, y_pred)``."""
        if len(values) != 2:
            raise TypeError(
                f"`update_state` of {type(self).__name__} takes `y_true` and `y_pred`. "
                f"Received: {len(values)} arguments"
            )
        self.add_samples(self.per_sample(np.asarray(values[0]), np.asarray(values[1])))

    def _equal(self, y_true: Array, y_pred: Array) -> Array:
        hits: Array = np.equal(y_true, y_pred, out=self._kept("hits", y_pred.shape, np.bool_))
        return hits


class Accuracy(MeanOverSamples):
    """Fraction of predictions that equal their targets exactly.

    Shapes are equal, up to an axis of length 1 at the end. For class probabilities take one of the
    other accuracies; ``metrics=["accuracy"]`` picks it, see `resolve_accuracy`.
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        return self._equal(_aligned(y_true, y_pred), y_pred)


class BinaryAccuracy(MeanOverSamples):
    """Fraction of predictions on their target's side of a threshold: ``y_true == (y_pred > 0.5)``.

    Parameters
    ----------
    name
        See `Metric`.
    threshold
        Keras' default 0.5 is meant for probabilities; for logits take 0.
    """

    config_names = ("threshold",)

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = check_number("threshold", threshold)

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        above = self._kept("above", y_pred.shape, np.bool_)
        np.greater(y_pred, self.threshold, out=above)
        return self._equal(_aligned(y_true, y_pred), above)


class PlaceAccuracy(MeanOverSamples):
    """Base of accuracies that compare the place of the largest prediction with a label's.

    A subclass has a method `true_places`.
    """

    def true_places(self, y_true: Array, shape: tuple[int, ...]) -> Array:
        """Return the labels' places, shape (...), for predictions of this shape, (..., K)."""
        raise NotImplementedError(f"{type(self).__name__} must define `true_places`.")

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        places = self.true_places(y_true, y_pred.shape)
        best = self._kept("best", y_pred.shape[:-1], np.intp)
        return self._equal(places, y_pred.argmax(axis=-1, out=best))

    def update_places(self, y_true: Array, best: Array, classes: int) -> None:
        """As ``update_state(y_true, y_pred)``, where ``best = y_pred.argmax(axis=-1)`` is known."""
        places = self.true_places(y_true, (*best.shape, classes))
        self.add_samples(self._equal(places, best))


class CategoricalAccuracy(PlaceAccuracy):
    """Fraction of samples whose largest prediction is at the place of their one-hot label.

    Labels have the shape (..., K) of the predictions: probabilities or logits.
    """

    def true_places(self, y_true: Array, shape: tuple[int, ...]) -> Array:
        """See `PlaceAccuracy.true_places`."""
        if y_true.shape != shape or not shape:
            raise ValueError(
                f"`y_true` must be one-hot, of the shape of `y_pred`, {shape}. "
                f"Received: y_true of shape {y_true.shape}"
            )
        return y_true.argmax(axis=-1, out=self._kept("true", shape[:-1], np.intp))


class SparseCategoricalAccuracy(PlaceAccuracy):
    """Fraction of samples whose largest prediction is at the place of their integer label.

    Labels have the shape (...) of the predictions (..., K) without their last axis, or (..., 1).
    """

    def true_places(self, y_true: Array, shape: tuple[int, ...]) -> Array:
        """See `PlaceAccuracy.true_places`."""
        if y_true.shape == (*shape[:-1], 1):
            y_true = y_true[..., 0]
        if not shape or y_true.shape != shape[:-1]:
            raise ValueError(
                f"`y_true` must hold one integer label per sample, shape {shape[:-1]}. "
                f"Received: y_true of shape {y_true.shape}"
            )
        return y_true


class MeanSquaredError(MeanOverSamples):
    """Mean of ``(y_pred - y_true)**2`` over all elements."""

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """See `MeanOverSamples.per_sample`."""
        dtype = np.result_type(y_pred, y_true)
        difference = self._kept("difference", y_pred.shape, dtype)
        np.subtract(y_pred, _aligned(y_true, y_pred), out=difference)
        return np.square(difference, out=difference)


def _aligned(y_true: Array, y_pred: Array) -> Array:
    """Return `y_true` in the shape of `y_pred`; they may differ by a last axis of length 1."""
    if y_true.shape == y_pred.shape:
        return y_true
    if (*y_true.shape, 1) == y_pred.shape or y_true.shape == (*y_pred.shape, 1):
        return y_true.reshape(y_pred.shape)
    raise ValueError(
        f"`y_true` must have the shape of `y_pred`, {y_pred.shape}. "
        f"Received: y_true of shape {y_true.shape}"
    )


def resolve_accuracy(y_true_shape: Sequence[int], output_shape: Sequence[int]) -> Metric:
    """Return the metric that ``"accuracy"`` means for these shapes, by Keras' rule.

    Parameters
    ----------
    y_true_shape, output_shape
        Shapes of targets and outputs; the batch size is not looked at where an axis follows it.

    Returns
    -------
    Metric
        Named ``"accuracy"``: `BinaryAccuracy` for outputs (..., 1); else
        `SparseCategoricalAccuracy` where the targets have fewer axes, or a last axis of length 1;
        else `CategoricalAccuracy`.
    """
    if output_shape[-1] == 1:
        return BinaryAccuracy("accuracy")
    if len(y_true_shape) < len(output_shape) or y_true_shape[-1] == 1:
        return SparseCategoricalAccuracy("accuracy")
    return CategoricalAccuracy("accuracy")


_registry: Registry[Metric] = Registry(
    "metric",
    Metric,
    [
        Accuracy,
        BinaryAccuracy,
        CategoricalAccuracy,
        SparseCategoricalAccuracy,
        Mean,
        MeanSquaredError,
    ],
    {"mse": MeanSquaredError},
)


def get(identifier: Any) -> Metric:
    """Return a metric.

    Parameters
    ----------
    identifier
        A `Metric` (returned as it is), a class, a name, or a dictionary ``{"class_name": ...,
        "config": ...}``. ``"accuracy"`` is `Accuracy` here; a model asks `resolve_accuracy`.

    Raises
    ------
    ValueError
        It is none of these.
    """
    return _registry.get(identifier)
