"""The moving averages of the weights, in the model while it is tested."""

from __future__ import annotations

from typing import Any

from fusednn.callbacks.callback import Callback, Logs


class SwapEMAWeights(Callback):
    """Lets the model test and predict with the averages of an optimizer that has ``use_ema``.

    Without it the model trains and is validated with its own weights, and gets the averages where
    `fit` ends. Each exchange takes one pass over weights and averages.

    Parameters
    ----------
    swap_on_epoch : bool
        Have the averages in the model from the end of an epoch, too, until the next one begins, so
        that `ModelCheckpoint` and others that come later in the list see them.

    Raises
    ------
    ValueError
        The first time: the model's optimizer has no ``use_ema=True``.

    Notes
    -----
    After `predict` the weights are the model's own again. (Keras 3.15 leaves the averages there.)
    """

    def __init__(self, swap_on_epoch: bool = False) -> None:
        super().__init__()
        self.swap_on_epoch = bool(swap_on_epoch)

    def get_state(self) -> dict[str, Any]:
        """Return which of the two are in the model."""
        return {"swapped": self.model.optimizer is not None and self.model.optimizer.swapped}

    def set_state(self, state: dict[str, Any]) -> None:
        """Say which of the two are in the model."""
        if self.model.optimizer is not None:
            self.model.optimizer.swapped = state["swapped"]

    def _have_averages(self, wanted: bool) -> None:
        optimizer = self.model.optimizer
        if optimizer is None or not optimizer.use_ema:
            raise ValueError(
                "SwapEMAWeights needs a model whose optimizer has `use_ema=True`. "
                f"Received: an optimizer {optimizer!r}"
            )
        optimizer.swap_averages(wanted)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Train with the model's own weights."""
        self._have_averages(False)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Show the averages, if asked for."""
        if self.swap_on_epoch:
            self._have_averages(True)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Test with the averages."""
        self._have_averages(True)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Go on with the model's own weights."""
        self._have_averages(False)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Predict with the averages."""
        self._have_averages(True)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Go on with the model's own weights."""
        self._have_averages(False)
