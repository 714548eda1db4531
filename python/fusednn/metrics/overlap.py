"""How far predicted classes and labels overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_count
from fusednn.metrics.base import Array, Metric


class MeanIoU(Metric):
    """The mean over the classes of ``intersection / union`` of places with and predicted as one.

    ``TP / (TP + FP + FN)`` of each class, from a confusion matrix; classes that neither labels nor
    predictions have do not count.

    Parameters
    ----------
    num_classes : int
        Labels and predictions outside of [0, num_classes) do not count.
    name, dtype
        See `Metric`.
    ignore_class : int, optional
        Places with this label do not count.
    sparse_y_true, sparse_y_pred : bool
        Labels, or predictions, are classes; otherwise they have a number for each class, the
        largest of which is meant.
    axis : int
        Axis of these numbers.
    """

    _direction = "up"

    config_names = ("num_classes", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis")

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: str | None = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(dtype, name or "mean_io_u")
        self.num_classes = check_count("num_classes", num_classes)
        self.ignore_class = (
            None if ignore_class is None else check_count("ignore_class", ignore_class, -(2**62))
        )
        self.sparse_y_true = bool(sparse_y_true)
        self.sparse_y_pred = bool(sparse_y_pred)
        self.axis = check_count("axis", axis, minimum=-64)
        self.total_cm: Array
        self.reset_state()

    def update_state(self, *values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in one batch: ``update_state(y_true, y_pred)``.

        `sample_weight` is one number for all places, or one for each.
        """
        if len(values) != 2:
            raise TypeError(
                f"`update_state` of {type(self).__name__} takes `y_true` and `y_pred`. "
                f"Received: {len(values)} arguments"
            )
        y_true, y_pred = np.asarray(values[0]), np.asarray(values[1])
        labels = (y_true if self.sparse_y_true else y_true.argmax(axis=self.axis)).reshape(-1)
        classes = (y_pred if self.sparse_y_pred else y_pred.argmax(axis=self.axis)).reshape(-1)
        if labels.shape != classes.shape:
            raise ValueError(
                "`y_true` must hold a label for each prediction. Received: y_true of shape "
                f"{y_true.shape}, y_pred of shape {y_pred.shape}"
            )
        weights = np.ones(()) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weights.size not in (1, labels.size):
            raise ValueError(
                f"`sample_weight` must hold one weight for each of {labels.size} places. "
                f"Received: shape {weights.shape}"
            )
        weights = np.broadcast_to(weights.reshape(-1), labels.shape)
        counted = (labels >= 0) & (labels < self.num_classes)
        counted &= (classes >= 0) & (classes < self.num_classes)
        if self.ignore_class is not None:
            counted &= labels != self.ignore_class
        pairs = labels[counted].astype(np.intp) * self.num_classes
        pairs += classes[counted].astype(np.intp)
        self.total_cm = self.total_cm + np.bincount(
            pairs, weights[counted], self.num_classes**2
        ).reshape(self.num_classes, self.num_classes)

    def result(self) -> float:
        """Return the mean; 0 where nothing was counted."""
        both = self.total_cm.diagonal()
        union = self.total_cm.sum(axis=0) + self.total_cm.sum(axis=1) - both
        present = union > 0
        if not present.any():
            return 0.0
        return float((both[present] / union[present]).mean())

    def reset_state(self) -> None:
        """See `Metric.reset_state`."""
        self.total_cm = np.zeros((self.num_classes, self.num_classes))
