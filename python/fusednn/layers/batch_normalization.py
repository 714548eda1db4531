"""Batch normalisation, alone or fused with the rectifier that follows it."""

from __future__ import annotations

from typing import Any

from fusednn import constraints, initializers, regularizers
from fusednn._arguments import check_number, refuse_absent
from fusednn._serialization import serialize
from fusednn.layers.batch_norm_steps import BatchNormStep, MovingNormStep
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Step
from fusednn.variable import Variable

_ABSENT = {
    "renorm": "take larger batches, or `models.recalibrate_batch_norm` after training",
    "renorm_clipping": "there is no `renorm`",
    "synchronized": "a model trains in one process, with the statistics of its whole batch",
}


class BatchNormalization(Layer):
    """``y = (x - mean) / sqrt(var + epsilon) * gamma + beta``, per index of `axis`.

    In training, mean and (biased) variance are those of the batch, over all other axes, and the
    moving statistics follow: ``moving <- momentum * moving + (1 - momentum) * batch``, the variance
    biased too. In inference the moving statistics are used, and nothing moves.

    Parameters
    ----------
    axis : int
        The channel axis; every other axis is averaged over. Not 0, the batch axis.
    momentum : float
        In [0, 1]; 0.99 by default. PyTorch's momentum is ``1 - momentum``.
    epsilon : float
        At least 0; 1e-3 by default, PyTorch's is 1e-5.
    center, scale : bool
        Whether there is a beta, a gamma.
    beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer
        See `fusednn.initializers`.
    beta_regularizer, gamma_regularizer
        Penalties that are added to the loss; see `fusednn.regularizers`.
    beta_constraint, gamma_constraint
        Applied after each step of the optimizer; see `fusednn.constraints`.
    **kwargs
        Of `Layer`; Keras' `renorm` and `synchronized` must be off.

    Raises
    ------
    ValueError
        If an argument is out of range, or an input does not have the channels of the first one.

    Notes
    -----
    Variables, each of shape ``(channels,)`` and in this order: gamma, beta, moving_mean,
    moving_variance; the last two are not trainable. ``trainable = False`` means inference mode,
    also in training, as in Keras. PyTorch's running variance is unbiased, Keras 3's is not.

    A `LeakyReLU` or `ReLU` layer, or an `Activation` of these, directly after this layer runs in
    the same kernel; the results have the same bits as of two kernels.

    Source: Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167.
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
        **kwargs: Any,
    ) -> None:
        refuse_absent(kwargs, _ABSENT)
        super().__init__(**kwargs)
        self.axis = int(axis)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)
        self.center = bool(center)
        self.scale = bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None
        self.moving_mean: Variable | None = None
        self.moving_variance: Variable | None = None

    def build(self, input_shape: BatchShape) -> None:
        """Create gamma, beta and the moving statistics."""
        channels = input_shape[self.channel_axis(len(input_shape))]
        if channels is None:
            raise ValueError(
                f"Axis {self.axis} of the input of layer '{self.name}' must have a known length. "
                f"Received: input_shape={input_shape}"
            )
        shape = (channels,)
        if self.scale:
            self.gamma = self.add_weight(
                "gamma",
                shape,
                self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.beta = self.add_weight(
                "beta",
                shape,
                self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
        self.moving_mean = self.add_weight(
            "moving_mean", shape, self.moving_mean_initializer, trainable=False
        )
        self.moving_variance = self.add_weight(
            "moving_variance", shape, self.moving_variance_initializer, trainable=False
        )
        super().build(input_shape)

    def channel_axis(self, rank: int) -> int:
        """`axis` counted from 0, for an input of this rank."""
        axis = self.axis + rank if self.axis < 0 else self.axis
        if not 0 < axis < rank:
            raise ValueError(
                f"`axis` of layer '{self.name}' must be an axis of its input other than the batch "
                f"axis. Received: axis={self.axis}, input of rank {rank}"
            )
        return axis

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: that of the input."""
        channels = input_shape[self.channel_axis(len(input_shape))]
        if self.moving_mean is not None and channels != self.moving_mean.shape[0]:
            raise ValueError(
                f"The input of layer '{self.name}' must have {self.moving_mean.shape[0]} channels "
                f"in axis {self.axis}. Received: input_shape={input_shape}"
            )
        return input_shape

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step: with the batch's statistics, or with the moving ones."""
        return [BatchNormStep(self) if training and trainable else MovingNormStep(self)]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal, unbuilt layer."""
        return super().get_config() | {
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": serialize(self.beta_initializer),
            "gamma_initializer": serialize(self.gamma_initializer),
            "moving_mean_initializer": serialize(self.moving_mean_initializer),
            "moving_variance_initializer": serialize(self.moving_variance_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
        }
