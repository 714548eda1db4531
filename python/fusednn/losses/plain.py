"""The base of losses without arguments of their own."""

from __future__ import annotations

from fusednn.losses.base import Loss


class PlainLoss(Loss):
    """A loss whose arguments are those of `Loss`, in the order that Keras' losses have.

    Parameters
    ----------
    reduction, name, dtype
        See `Loss`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
