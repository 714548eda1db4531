"""BatchNorm followed by leaky ReLU as one layer, in place of the two of `keras.layers`."""

from __future__ import annotations

from typing import Any

import keras

from fusednn._arguments import check_number
from fusednn.keras.backends import kernels_of

#: Of Keras' batch renormalisation, which releases before 3.12 do not know.
_RENORM = ("renorm", "renorm_clipping", "renorm_momentum")


@keras.saving.register_keras_serializable(package="fusednn")
class BatchNormalizationLeakyReLU(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` and `LeakyReLU` in one.

    ``y = leaky_relu((x - mean) / sqrt(var + epsilon) * gamma + beta)``, one pass over memory
    forward and one backward, with the mean and the (biased) variance of the batch in training and
    the moving ones else. Training moves them: ``moving <- momentum * moving + (1 - momentum) *
    batch``. It is a `keras.layers.BatchNormalization`, with its weights in its order.

    Parameters
    ----------
    axis : int, default -1
        The channels' axis. Other than the last or the second costs a copy.
    momentum : float, default 0.99
        Weight of what the moving statistics were (in PyTorch `momentum` is one minus it).
    epsilon : float, default 1e-3
        PyTorch's default is 1e-5.
    center, scale : bool, default True
        Whether there is a `beta`, and a `gamma`.
    beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer
        As of `keras.layers.BatchNormalization`.
    beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint
        As of `keras.layers.BatchNormalization`.
    synchronized : bool, default False
        On the TensorFlow backend alone, as in Keras.
    negative_slope : float >= 0, default 0.3
        Of the leaky ReLU, as in `keras.layers.LeakyReLU` (PyTorch: 0.01); 0 is ReLU.
    **kwargs
        Of every layer: `name`, `dtype`, `trainable`.

    Raises
    ------
    TypeError, ValueError
        For a `negative_slope` that is no such number, and for `renorm`, which has no kernel.

    Notes
    -----
    Called with a `mask`, which leaves elements out of the statistics, Keras computes the layer, as
    it does on backends without kernels (:func:`fusednn.keras.kernels_are_used`). float16 and
    bfloat16 are rounded once, where Keras rounds between the two layers. A layer that is not
    `trainable` uses the moving statistics, as in Keras.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        *,
        synchronized: bool = False,
        negative_slope: float = 0.3,
        **kwargs: Any,
    ) -> None:
        slope = check_number("negative_slope", negative_slope, minimum=0)
        renorm, _, _ = (kwargs.pop(name, None) for name in _RENORM)
        if renorm:
            raise ValueError(
                "`renorm` must be False: batch renormalisation has no kernel, use "
                f"keras.layers.BatchNormalization and LeakyReLU. Received: renorm={renorm!r}"
            )
        super().__init__(
            axis=axis,
            momentum=momentum,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            synchronized=synchronized,
            **kwargs,
        )
        self.negative_slope = slope
        self._kernels = kernels_of("layers")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise, scale, shift and activate `inputs`, without those that `mask` leaves out."""
        kernels = self._kernels
        if kernels is not None and mask is None and kernels.can_compute(inputs):
            return kernels.batch_normalization_leaky_relu(self, inputs, training and self.trainable)
        outputs = super().call(inputs, training=training, mask=mask)
        return keras.ops.leaky_relu(outputs, self.negative_slope)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        # A file without them opens in every release of Keras 3.
        for name in _RENORM:
            config.pop(name, None)
        return {**config, "negative_slope": self.negative_slope}
