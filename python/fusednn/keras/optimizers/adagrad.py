"""AdaGrad (Duchi, Hazan and Singer, 2011)."""

from __future__ import annotations

from typing import Any

import keras

from fusednn.keras.optimizers.fused_step import FusedStep


@keras.saving.register_keras_serializable(package="fusednn")
class Adagrad(FusedStep, keras.optimizers.Adagrad):
    """AdaGrad as `keras.optimizers.Adagrad`, one kernel call for a step.

    ``h <- h + g^2``; ``w <- w - learning_rate * g / sqrt(h + epsilon)``. PyTorch adds epsilon to
    the root.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    initial_accumulator_value : float, default 0.1
        What ``h`` begins with.
    epsilon : float, default 1e-7
    **kwargs
        Those of :class:`Adam` that all optimizers have.
    """

    kind = "adagrad"

    def _kernel_states(self) -> dict[str, list[Any]]:
        return {"sums": self._accumulators}

    def _hyperparameters(self) -> dict[str, Any]:
        return {"eps": self.epsilon}
