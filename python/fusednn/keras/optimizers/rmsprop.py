"""RMSProp (Hinton, 2012), centered (Graves, 2013) or with momentum."""

from __future__ import annotations

from typing import Any

import keras

from fusednn.keras.optimizers.fused_step import FusedStep


@keras.saving.register_keras_serializable(package="fusednn")
class RMSprop(FusedStep, keras.optimizers.RMSprop):
    """RMSProp as `keras.optimizers.RMSprop`, one kernel call for a step.

    ``v <- rho * v + (1 - rho) * g^2``; ``m <- momentum * m + learning_rate * g / sqrt(v +
    epsilon)``; ``w <- w - m``. With `centered` the square of the gradients' moving average is taken
    from ``v`` under the root. PyTorch adds epsilon to the root, and has the learning rate outside
    of the momentum.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    rho : float in [0, 1], default 0.9
    momentum : float in [0, 1], default 0.0
    epsilon : float, default 1e-7
    centered : bool, default False
    **kwargs
        Those of :class:`Adam` that all optimizers have.
    """

    kind = "rmsprop"

    def _kernel_states(self) -> dict[str, list[Any]]:
        states = {"square_avgs": self._velocities}
        if self.momentum > 0:
            states["momentum_buffers"] = self._momentums
        if self.centered:
            states["grad_avgs"] = self._average_gradients
        return states

    def _hyperparameters(self) -> dict[str, Any]:
        return {
            "rho": self.rho,
            "eps": self.epsilon,
            "momentum": max(self.momentum, 0.0),
            "centered": bool(self.centered),
        }
