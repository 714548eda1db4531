"""The best of one share of a confusion matrix where another one keeps a limit."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fusednn._arguments import check_number
from fusednn.metrics.base import Array
from fusednn.metrics.confusion import ConfusionMetric, share


class BestWithin(ConfusionMetric):
    """Base of the four: the largest of `shares`' second, at thresholds where the first is enough.

    Of `num_thresholds` thresholds, evenly spaced from 0 to 1 (0.5 alone where it is 1); 0 where at
    none of them the first is as large as asked for.
    """

    _direction = "up"
    #: Name of the argument that holds the limit.
    limit: ClassVar[str]

    def __init__(
        self,
        value: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.value = check_number(self.limit, value, minimum=0, maximum=1)
        self.num_thresholds = int(check_number("num_thresholds", num_thresholds, minimum=1))
        count = self.num_thresholds
        even = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
        super().__init__(even, name, dtype)
        self.class_id = class_id

    @staticmethod
    def shares(tp: Array, fp: Array, tn: Array, fn: Array) -> tuple[Array, Array]:
        """Return the share that is limited, and the one that is wanted, at each threshold."""
        raise NotImplementedError

    def result(self) -> float:
        """See `Metric.result`."""
        limited, wanted = self.shares(*self.counts())
        return float(np.max(wanted, where=limited >= self.value, initial=0.0))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = super().get_config()
        del config["thresholds"]
        own = {"num_thresholds": self.num_thresholds, self.limit: self.value}
        return config | {"class_id": self.class_id} | own


class PrecisionAtRecall(BestWithin):
    """The largest precision at a threshold where the recall is at least `recall`.

    Precision is ``tp / (tp + fp)`` and recall ``tp / (tp + fn)``, counted
    at evenly spaced thresholds; 0 where none of them gives the recall that is asked for.

    Parameters
    ----------
    recall : float
        In [0, 1].
    num_thresholds : int
        From 0 to 1; 0.5 alone where it is 1.
    class_id : int, optional
        Only this index of the last axis counts.
    name, dtype
        See `Metric`.
    """

    limit = "recall"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)

    @staticmethod
    def shares(tp: Array, fp: Array, tn: Array, fn: Array) -> tuple[Array, Array]:
        """See `BestWithin.shares`."""
        return share(tp, tp + fn), share(tp, tp + fp)


class RecallAtPrecision(BestWithin):
    """The largest recall at a threshold where the precision is at least `precision`.

    Recall is ``tp / (tp + fn)`` and precision ``tp / (tp + fp)``, counted
    at evenly spaced thresholds; 0 where none of them gives the precision that is asked for.

    Parameters
    ----------
    precision : float
        In [0, 1].
    num_thresholds : int
        From 0 to 1; 0.5 alone where it is 1.
    class_id : int, optional
        Only this index of the last axis counts.
    name, dtype
        See `Metric`.
    """

    limit = "precision"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)

    @staticmethod
    def shares(tp: Array, fp: Array, tn: Array, fn: Array) -> tuple[Array, Array]:
        """See `BestWithin.shares`."""
        return share(tp, tp + fp), share(tp, tp + fn)


class SensitivityAtSpecificity(BestWithin):
    """The largest sensitivity at a threshold where the specificity is at least `specificity`.

    Sensitivity is ``tp / (tp + fn)`` and specificity ``tn / (tn + fp)``, counted
    at evenly spaced thresholds; 0 where none of them gives the specificity that is asked for.

    Parameters
    ----------
    specificity : float
        In [0, 1].
    num_thresholds : int
        From 0 to 1; 0.5 alone where it is 1.
    class_id : int, optional
        Only this index of the last axis counts.
    name, dtype
        See `Metric`.
    """

    limit = "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)

    @staticmethod
    def shares(tp: Array, fp: Array, tn: Array, fn: Array) -> tuple[Array, Array]:
        """See `BestWithin.shares`."""
        return share(tn, tn + fp), share(tp, tp + fn)


class SpecificityAtSensitivity(BestWithin):
    """The largest specificity at a threshold where the sensitivity is at least `sensitivity`.

    Specificity is ``tn / (tn + fp)`` and sensitivity ``tp / (tp + fn)``, counted
    at evenly spaced thresholds; 0 where none of them gives the sensitivity that is asked for.

    Parameters
    ----------
    sensitivity : float
        In [0, 1].
    num_thresholds : int
        From 0 to 1; 0.5 alone where it is 1.
    class_id : int, optional
        Only this index of the last axis counts.
    name, dtype
        See `Metric`.
    """

    limit = "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)

    @staticmethod
    def shares(tp: Array, fp: Array, tn: Array, fn: Array) -> tuple[Array, Array]:
        """See `BestWithin.shares`."""
        return share(tp, tp + fn), share(tn, tn + fp)
