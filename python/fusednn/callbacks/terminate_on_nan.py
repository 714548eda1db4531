"""A quiet end of training where the loss is not finite."""

from __future__ import annotations

import math

from fusednn.callbacks.callback import Callback, Logs


class TerminateOnNaN(Callback):
    """Ends training at a loss that is NaN or infinite, instead of the error that `fit` raises.

    The step of that batch is not applied, so the weights are those before it (Keras applies it).

    Parameters
    ----------
    raise_error : bool
        Raise RuntimeError instead, so that other callbacks do not take training for ended.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = bool(raise_error)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            if self.raise_error:
                raise RuntimeError(
                    f"The loss is {loss} in batch {batch}: training is terminated at once."
                )
            print(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True
