"""What all metrics share: accumulation over batches, means, weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusednn._serialization import Configurable, snake_case
from fusednn.variable import Variable

Array = NDArray[Any]


class Metric(Configurable):
    """Base class: a number that is accumulated batch by batch.

    A new metric is a subclass with `update_state` and `result`, and with `reset_state` unless all
    it keeps is in variables of `add_variable`.

    Parameters
    ----------
    dtype : str, optional
        Accepted for the sake of Keras' programs: metrics are computed in double precision.
    name : str, optional
        Key in the logs; defaults to the class name in snake case.
    """

    config_names: ClassVar[tuple[str, ...]] = ("name",)
    #: What callbacks with ``mode="auto"`` go by: whether more is better ("up") or less ("down").
    #: Under Keras' name, so that metrics written for Keras say it to us.
    _direction: str | None = None

    def __init__(self, dtype: str | None = None, name: str | None = None) -> None:
        if dtype not in (None, "float32", "float64"):
            raise ValueError(f"`dtype` must be float32 or float64. Received: dtype={dtype!r}")
        self.name = name or snake_case(type(self).__name__)

    def add_variable(
        self,
        shape: Sequence[int] = (),
        initializer: Any = "zeros",
        dtype: str | None = None,
        aggregation: str | None = None,
        name: str | None = None,
    ) -> Variable:
        """Return a new variable of this metric, float64, which `reset_state` sets to zeros.

        ``self.hits = self.add_variable(name="hits")``, then ``self.hits.assign_add(n)`` and
        ``float(self.hits)``. `dtype` and `aggregation` have no effect.
        """
        from fusednn import initializers

        made = initializers.get("zeros" if initializer is None else initializer)
        variable = Variable(made(tuple(shape), "float64"), name=name or "variable", trainable=False)
        self.__dict__.setdefault("_own", []).append(variable)
        return variable

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = "zeros",
        dtype: str | None = None,
        name: str | None = None,
    ) -> Variable:
        """As `add_variable`."""
        return self.add_variable(shape, initializer, dtype, None, name)

    @property
    def variables(self) -> list[Variable]:
        """What `add_variable` made."""
        return list(self.__dict__.get("_own", ()))

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in one batch; metrics of predictions are given `y_true` and `y_pred`.

        `sample_weight` holds one weight for each sample, or, where a metric says so, for each
        element.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `update_state`.")

    def result(self) -> float:
        """Return the value over everything since `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} must define `result`.")

    def reset_state(self) -> None:
        """Forget all batches; by default, set the variables to zeros."""
        if not self.variables:
            raise NotImplementedError(f"{type(self).__name__} must define `reset_state`.")
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape))

    def get_state(self) -> dict[str, Any]:
        """Return what a resumed training needs, by name: all attributes that are numbers or arrays.

        `callbacks.BackupAndRestore` writes it; a metric with other states overrides it.
        """
        kinds = (bool, int, float, np.generic, np.ndarray)
        state = {name: value for name, value in vars(self).items() if isinstance(value, kinds)}
        return state | {"variables": [variable.numpy() for variable in self.variables]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned."""
        for variable, value in zip(self.variables, state.pop("variables"), strict=True):
            variable.assign(value)
        for name, value in state.items():
            setattr(self, name, value)

    def __call__(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """`update_state`, then `result`."""
        self.update_state(*values, sample_weight=sample_weight)
        return self.result()


def _the_one(metric: Metric, values: tuple[ArrayLike, ...]) -> Array:
    """Return what a metric of values, not of labels and predictions, was given."""
    if len(values) != 1:
        raise TypeError(
            f"`update_state` of {type(metric).__name__} takes one argument, `values`. "
            f"Received: {len(values)} arguments"
        )
    return np.asarray(values[0])


class Mean(Metric):
    """Mean of all values; 0 where there was none, as in Keras.

    Sums are float64 (Keras: float32), so that the mean of millions of samples stays exact.

    Parameters
    ----------
    name, dtype
        See `Metric`.

    Attributes
    ----------
    total : float
        Sum over the samples, each the mean of its values.
    count : float
        Number of samples: the length of the first axis, 1 for a scalar; or the sum of weights.
    """

    def __init__(self, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(dtype, name)
        self._arrays: dict[str, Array] = {}
        self.reset_state()

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in ``update_state(values)``: a number, or an array of samples on the first axis."""
        self.add_samples(_the_one(self, values), sample_weight)

    def add_samples(self, values: Array, sample_weight: ArrayLike | None = None) -> None:
        """Add one sample for each element of the first axis of `values`."""
        if sample_weight is not None:
            self._add_weighted(values, np.asarray(sample_weight, np.float64))
            return
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

    def _add_weighted(self, values: Array, weights: Array) -> None:
        samples = len(values) if values.ndim else 1
        if weights.size not in (1, samples):
            raise ValueError(
                f"`sample_weight` must hold one weight for each of {samples} samples. "
                f"Received: shape {weights.shape}"
            )
        means = values.reshape(samples, -1).mean(axis=1, dtype=np.float64)
        weights = np.broadcast_to(weights.reshape(-1), (samples,))
        self.total += float(np.dot(means, weights))
        self.count += float(weights.sum())

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
        self.count = 0.0


class Sum(Metric):
    """Sum of all values, each times the weight of its sample; 0 where there was none.

    Parameters
    ----------
    name, dtype
        See `Metric`.
    """

    def __init__(self, name: str | None = "sum", dtype: str | None = None) -> None:
        super().__init__(dtype, name)
        self.reset_state()

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in ``update_state(values)``: a number, or an array of samples on the first axis."""
        array = np.atleast_1d(np.asarray(_the_one(self, values), np.float64))
        self.total += float((array * element_weights(sample_weight, array.shape)).sum())

    def result(self) -> float:
        """See `Metric.result`."""
        return self.total

    def reset_state(self) -> None:
        """See `Metric.reset_state`."""
        self.total = 0.0


class MeanOverSamples(Mean):
    """Base class of means of a function of targets and predictions.

    A new metric is a subclass with a method `per_sample`.
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        """Return the values to average, samples on the first axis."""
        raise NotImplementedError(f"{type(self).__name__} must define `per_sample`.")

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in one batch: ``update_state(y_true, y_pred)``."""
        if len(values) != 2:
            raise TypeError(
                f"`update_state` of {type(self).__name__} takes `y_true` and `y_pred`. "
                f"Received: {len(values)} arguments"
            )
        self.add_samples(
            self.per_sample(np.asarray(values[0]), np.asarray(values[1])), sample_weight
        )

    def _equal(self, y_true: Array, y_pred: Array) -> Array:
        hits: Array = np.equal(y_true, y_pred, out=self._kept("hits", y_pred.shape, np.bool_))
        return hits


def aligned(y_true: Array, y_pred: Array) -> Array:
    """Return `y_true` in the shape of `y_pred`; they may differ by a last axis of length 1."""
    if y_true.shape == y_pred.shape:
        return y_true
    if (*y_true.shape, 1) == y_pred.shape or y_true.shape == (*y_pred.shape, 1):
        return y_true.reshape(y_pred.shape)
    raise ValueError(
        f"`y_true` must have the shape of `y_pred`, {y_pred.shape}. "
        f"Received: y_true of shape {y_true.shape}"
    )


def element_weights(sample_weight: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """Return a weight for each element of `shape`, from one for all, each sample or each element.

    Raises
    ------
    ValueError
        There are neither one nor as many as samples or elements.
    """
    weights = np.asarray(1.0 if sample_weight is None else sample_weight)
    if weights.shape != shape and weights.size not in (1, shape[0]):
        raise ValueError(
            f"`sample_weight` must hold one weight for each of {shape[0]} samples. "
            f"Received: shape {weights.shape}"
        )
    if weights.shape != shape and weights.size != 1:
        weights = weights.reshape(-1, *[1] * (len(shape) - 1))
    return np.broadcast_to(weights, shape)
