"""Adam (Kingma and Ba, 2014), AMSGrad (Reddi et al., 2018), AdamW (Loshchilov and Hutter, 2019)."""

from __future__ import annotations

from typing import Any

import keras

from fusednn.keras.optimizers.fused_step import FusedStep


class _AdamStep(FusedStep):
    kind = "adam"

    _momentums: list[Any]
    _velocities: list[Any]
    _velocity_hats: list[Any]
    beta_1: float
    beta_2: float
    epsilon: float
    amsgrad: bool

    def _kernel_states(self) -> dict[str, list[Any]]:
        states = {"exp_avgs": self._momentums, "exp_avg_sqs": self._velocities}
        if self.amsgrad:
            states["max_exp_avg_sqs"] = self._velocity_hats
        return states

    def _hyperparameters(self) -> dict[str, Any]:
        return {
            "beta1": float(self.beta_1),
            "beta2": float(self.beta_2),
            "eps": self.epsilon,
            "amsgrad": bool(self.amsgrad),
        }


@keras.saving.register_keras_serializable(package="fusednn")
class Adam(_AdamStep, keras.optimizers.Adam):
    """Adam as `keras.optimizers.Adam`, one kernel call for a step.

    ``m <- beta_1 * m + (1 - beta_1) * g``, ``v <- beta_2 * v + (1 - beta_2) * g^2``, ``w <- w -
    learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)``; with `amsgrad`
    the largest ``v`` so far. PyTorch's epsilon is added after the correction of ``v``.

    States, their order and files are Keras': what `keras.optimizers.Adam` saved loads here, and the
    other way.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float, default 1e-7
    amsgrad : bool, default False
    weight_decay : float or None
        ``w <- w - learning_rate * weight_decay * w`` first, but for variables of
        `exclude_from_weight_decay`.
    clipvalue, clipnorm, global_clipnorm : float or None
        Limits on each number of the gradients, on the L2 norm of each, and of all together.
    use_ema, ema_momentum, ema_overwrite_frequency
        Moving averages of the variables, and after how many steps the variables become them.
    loss_scale_factor : float or None
        The loss is multiplied by it, and the gradients are divided by it.
    gradient_accumulation_steps : int or None
        Step once in so many calls, with the mean of their gradients.
    name : str or None
    **kwargs
        As of `keras.optimizers.Adam`.

    Raises
    ------
    ValueError, TypeError
        As Keras does; when a step is made, for a number that the kernel refuses, by name.
    """


@keras.saving.register_keras_serializable(package="fusednn")
class AdamW(_AdamStep, keras.optimizers.AdamW):
    """AdamW as `keras.optimizers.AdamW`: :class:`Adam` with a `weight_decay` of 0.004.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, amsgrad
        As of :class:`Adam`.
    weight_decay : float, default 0.004
    **kwargs
        As of :class:`Adam`.
    """
