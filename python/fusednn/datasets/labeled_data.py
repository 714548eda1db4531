"""What every reader returns: checked features, class numbers and the classes' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.split import stratified_split

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class LabeledData:
    """Training examples with their classes, and a test set where the source has one.

    Attributes
    ----------
    source : str
        Where the data came from; opens every error message about it.
    x_train, x_test : ndarray, float32, shape (n, ...)
        Features as they were in the source, neither scaled nor flattened. Where the source has no
        test set, the n of `x_test` and `y_test` is 0.
    y_train, y_test : ndarray, int64, shape (n,)
        Class numbers 0 ... k-1, positions in `classes`.
    classes : tuple of str
        The source's labels: numbers in ascending order, strings in alphabetical order.
    pixel_max : float or None
        The value of a fully lit pixel if the features are pixels, None if they are quantities of
        unlike units.
    """

    source: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: tuple[str, ...]
    pixel_max: float | None = None

    @classmethod
    def from_arrays(
        cls,
        source: str,
        train: tuple[Array, Array],
        test: tuple[Array, Array] | None = None,
        *,
        names: Sequence[str] = ("x_train", "y_train", "x_test", "y_test"),
        pixel_max: float | None = None,
    ) -> Self:
        """Check features and labels, and number the classes that the training labels hold.

        Parameters
        ----------
        source
            Names the data in error messages.
        train, test
            Pairs of features, numbers of shape (n, ...) with n > 0, and labels, integers or strings
            of shape (n,) or (n, 1); floating-point labels must be whole numbers.
        names
            What the source calls the four arrays, for error messages.
        pixel_max
            See the attribute.

        Raises
        ------
        ValueError
            If an array has another rank, length or dtype; if a feature is not finite; if there are
            fewer than two classes; if a test label is not among the training labels.
        """
        x_train = _features(source, names[0], train[0])
        labels = _labels(source, names[1], train[1], names[0], len(x_train))
        classes, y_train = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{source}: {names[1]} must hold two classes or more. Received: only {classes[0]!s}"
            )
        data = cls(
            source=source,
            x_train=x_train,
            y_train=y_train.astype(np.int64),
            x_test=x_train[:0],
            y_test=np.zeros(0, np.int64),
            classes=tuple(str(name) for name in classes),
            pixel_max=pixel_max,
        )
        if test is None:
            return data
        x_test = _features(source, names[2], test[0])
        if x_test.shape[1:] != x_train.shape[1:]:
            raise ValueError(
                f"{source}: {names[2]} must have examples of the shape of those of {names[0]}, "
                f"{x_train.shape[1:]}. Received: {x_test.shape[1:]}"
            )
        labels_test = _labels(source, names[3], test[1], names[2], len(x_test))
        y_test = _numbers(source, names[3], labels_test, names[1], classes)
        return replace(data, x_test=x_test, y_test=y_test)

    def with_test_set(self, test_fraction: float = 0.2, seed: int = 0) -> Self:
        """Return the data with a test set: its own, else a stratified part of the training set.

        Parameters
        ----------
        test_fraction
            Share of each class that goes to the test set, see `stratified_split`.
        seed
            Decides which examples go.

        Raises
        ------
        ValueError
            If `test_fraction` is outside (0, 1), or if no class has two examples.
        """
        if len(self.x_test):
            return self
        try:
            train, test = stratified_split(self.y_train, test_fraction, seed)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None
        return replace(
            self,
            x_train=self.x_train[train],
            y_train=self.y_train[train],
            x_test=self.x_train[test],
            y_test=self.y_train[test],
        )


def _features(source: str, name: str, x: Array) -> Array:
    """Return `x` as float32 of shape (n, ...), all finite."""
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{source}: {name} must hold numbers. Received: dtype={x.dtype}")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"{source}: {name} must have shape (examples, features, ...) and not be empty. "
            f"Received: shape={x.shape}"
        )
    with np.errstate(over="ignore"):
        features = x.astype(np.float32, copy=False)
    if not np.isfinite(features).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(features))[0])
        raise ValueError(
            f"{source}: {name} must be finite in float32. Received: {x[place]!s} at index {place}"
        )
    return features


def _labels(source: str, name: str, labels: Array, x_name: str, count: int) -> Array:
    """Return `labels` as `count` integers or strings."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"{source}: {name} must hold one label an example, shape (n,) or (n, 1). "
            f"Received: shape={labels.shape}"
        )
    if len(labels) != count:
        raise ValueError(
            f"{source}: {x_name} and {name} must have the same number of examples. "
            f"Received: {count} and {len(labels)}"
        )
    if labels.dtype.kind in "iubUS":
        return labels
    if labels.dtype.kind != "f":
        raise ValueError(
            f"{source}: {name} must hold integers or strings. Received: dtype={labels.dtype}"
        )
    fractional = np.flatnonzero((labels != np.rint(labels)) | ~(np.abs(labels) < 2**53))
    if fractional.size:
        first = int(fractional[0])
        raise ValueError(
            f"{source}: {name} must hold class labels, whole numbers or strings. "
            f"Received: {labels[first]!s} at index {first}"
        )
    return labels.astype(np.int64)


def _numbers(source: str, name: str, labels: Array, train_name: str, classes: Array) -> Array:
    """Return each label's position in the sorted `classes`."""
    if (labels.dtype.kind in "US") != (classes.dtype.kind in "US"):
        raise ValueError(
            f"{source}: {name} must hold labels of the same kind as {train_name}, {classes.dtype}. "
            f"Received: dtype={labels.dtype}"
        )
    positions = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    unknown = np.flatnonzero(classes[positions] != labels)
    if unknown.size:
        first = int(unknown[0])
        raise ValueError(
            f"{source}: {name} must hold labels that occur in {train_name}. "
            f"Received: {labels[first]!s} at index {first}"
        )
    return positions.astype(np.int64)
