"""Stochastic gradient descent with momentum (Polyak, 1964) or Nesterov's (1983)."""

from __future__ import annotations

from typing import Any

import keras

from fusednn.keras.optimizers.fused_step import FusedStep


@keras.saving.register_keras_serializable(package="fusednn")
class SGD(FusedStep, keras.optimizers.SGD):
    """Stochastic gradient descent as `keras.optimizers.SGD`, one kernel call for a step.

    ``m <- momentum * m - learning_rate * g``; ``w <- w + m``, with `nesterov` ``w <- w + momentum *
    m - learning_rate * g``. In PyTorch the learning rate is outside of the momentum.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.01
    momentum : float in [0, 1], default 0.0
    nesterov : bool, default False
    **kwargs
        Those of :class:`Adam` that all optimizers have.
    """

    kind = "sgd"

    def _kernel_states(self) -> dict[str, list[Any]]:
        return {"momentum_buffers": self.momentums} if self.momentum else {}

    def _hyperparameters(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "nesterov": bool(self.nesterov)}
