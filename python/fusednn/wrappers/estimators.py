"""The estimators: what scikit-learn asks of them, around `Sequential`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fusednn import losses, optimizers
from fusednn.models import Sequential, clone_model
from fusednn.randomness import own_generator

__all__ = ["SKLearnClassifier", "SKLearnRegressor"]

Array = np.ndarray[Any, np.dtype[Any]]


class SKLBase(BaseEstimator):  # type: ignore[misc]
    """Base of both estimators.

    Parameters
    ----------
    model : Sequential or callable
        A compiled model, which is cloned by each `fit`; or a function of X and y, and of
        `model_kwargs`, that returns a compiled one.
    warm_start : bool
        Go on with the fitted model, instead of making a new one.
    model_kwargs : dict, optional
        Further arguments of the function.
    fit_kwargs : dict, optional
        Arguments of `Sequential.fit`; its `verbose` is 0 unless given.
    random_state : int, optional
        Seed of weights, shuffling and dropout in `fit`; the generator of the package is left as it
        was. (Keras' wrappers have no such argument.)

    Attributes
    ----------
    model_ : Sequential
        The fitted model.
    history_ : dict of list
        What `Sequential.fit` reported.
    """

    def __init__(
        self,
        model: Sequential | Callable[..., Sequential],
        warm_start: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
        random_state: int | None = None,
    ) -> None:
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, **kwargs: Any) -> Self:
        """Fit a model to the data; `kwargs` are those of `Sequential.fit`, before `fit_kwargs`."""
        inputs, given = validate_data(self, X, y, multi_output=True, y_numeric=self._numeric)
        targets = self._targets(np.asarray(given))
        with _seeded(self.random_state):
            fitted = getattr(self, "model_", None) if self.warm_start else None
            self.model_ = self._new_model(inputs, targets) if fitted is None else fitted
            options = {"verbose": 0} | dict(self.fit_kwargs or {}) | kwargs
            self.history_ = self.model_.fit(inputs, targets, **options).history
        return self

    _numeric = False

    def _targets(self, y: Array) -> Array:
        raise NotImplementedError

    def _new_model(self, X: Array, y: Array) -> Sequential:
        if not isinstance(self.model, Sequential):
            made = self.model(X, y, **dict(self.model_kwargs or {}))
            if not isinstance(made, Sequential) or not made.compiled:
                raise TypeError(f"`model` must return a compiled Sequential. Received: {made!r}")
            return made
        if not self.model.compiled or self.model.optimizer is None:
            raise ValueError("`model` must be compiled: call `compile(optimizer, loss)`.")
        made = clone_model(self.model)
        given = self.model._compiled().described()
        made.compile(
            optimizers.get(optimizers.serialize(self.model.optimizer)),
            losses.get(losses.serialize(self.model.loss)),
            metrics=given[0],
            weighted_metrics=given[1],
        )
        return made

    def _outputs(self, X: ArrayLike) -> Array:
        check_is_fitted(self, "model_")
        return self.model_.predict(validate_data(self, X, reset=False), verbose=0)


class SKLearnClassifier(ClassifierMixin, SKLBase):  # type: ignore[misc]
    """A classifier; the function `model` is given one-hot labels.

    Parameters
    ----------
    model, warm_start, model_kwargs, fit_kwargs, random_state
        See `SKLBase`. The model's loss is one of one-hot labels, such as the
        `CategoricalCrossentropy`, and its last layer has one output for each class.

    Attributes
    ----------
    classes_ : ndarray
        The labels, in the order of the outputs.
    """

    def _targets(self, y: Array) -> Array:
        check_classification_targets(y)
        labels, places = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(labels) < 2:
            raise ValueError(
                "The classifier cannot be fitted where `y` has only one class. "
                f"Received: {len(labels)} class"
            )
        self.classes_ = labels
        one_hot: Array = np.eye(len(labels), dtype=np.float32)[places.reshape(-1)]
        return one_hot

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the outputs, one column for each of `classes_`."""
        return self._outputs(X)

    def predict(self, X: ArrayLike) -> Array:
        """Return the class of the largest output of each sample."""
        outputs = self._outputs(X)
        labels: Array = self.classes_[outputs.argmax(axis=1)]
        return labels


class SKLearnRegressor(RegressorMixin, SKLBase):  # type: ignore[misc]
    """A regressor; the function `model` is given targets of shape (samples, outputs).

    Parameters
    ----------
    model, warm_start, model_kwargs, fit_kwargs, random_state
        See `SKLBase`.
    """

    _numeric = True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Array) -> Array:
        self.single_output_ = y.ndim == 1
        self.target_dtype_ = y.dtype
        return y.reshape(len(y), -1)

    def predict(self, X: ArrayLike) -> Array:
        """Return the outputs, of the shape of the targets in `fit` and at least as precise."""
        outputs = self._outputs(X)
        outputs = outputs.astype(np.result_type(outputs, self.target_dtype_), copy=False)
        return outputs.reshape(-1) if self.single_output_ else outputs


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with own_generator(np.random.default_rng(seed)):
        yield
