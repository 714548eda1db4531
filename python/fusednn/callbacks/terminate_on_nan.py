"""A quiet end of training where the loss is not finite."""

from __future__ import annotations

import math

from fusednn.callbacks.callback import Callback, Logs


class TerminateOnNaN(Callback):
    """Ends training at a loss that is NaN or infinite, instead of the error that `fit` raises.

    The step of that batch is not applied, so the weights are those before it (Keras applies it).
    """

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            print(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True
