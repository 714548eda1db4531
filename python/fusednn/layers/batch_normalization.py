"""Batch normalisation, alone or fused with the rectifier that follows it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fusednn import constraints, initializers, ops, regularizers
from fusednn._arguments import check_number
from fusednn._serialization import serialize
from fusednn.layers.buffers import Buffers
from fusednn.layers.dense import DenseStep
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.variable import Variable


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
        Of `Layer`.

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


class NormStep(Step):
    """What both modes share; `negative_slope` is that of a rectifier merged into the step."""

    runs_on_gpu = True

    def __init__(self, layer: BatchNormalization) -> None:
        assert layer.moving_mean is not None
        assert layer.moving_variance is not None
        self.layer = layer
        self.negative_slope: float | None = None
        #: Number of the rectifier's layer in the plan.
        self.rectifier_place: int | None = None
        self._moving_mean = layer.moving_mean.value
        self._moving_variance = layer.moving_variance.value
        self._gamma = None if layer.gamma is None else layer.gamma.value
        self._beta = None if layer.beta is None else layer.beta.value

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y and grad_x; the kernels always write grad_x."""
        self._axis = self.layer.channel_axis(len(input_shape))
        self._y = buffers.output(input_shape)


class BatchNormStep(NormStep):
    """Training: statistics of the batch; the moving ones follow."""

    has_gradients = True

    def __init__(self, layer: BatchNormalization) -> None:
        super().__init__(layer)
        self._update = 1.0 - layer.momentum
        #: The bias of the layer before, where this step stands for it.
        self.input_shift: Array | None = None

    def take_bias_of(self, dense: DenseStep) -> None:
        """Relieve the layer before of its bias: it only moves the mean, so count it in there."""
        bias = dense.give_bias_away()
        if bias is not None:
            self.input_shift = bias

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, the statistics, grad_x, and gradients that have no variable."""
        super().bind(input_shape, buffers, grad_input=grad_input)
        channels = self._moving_mean.shape
        self._mean = buffers.empty(channels)
        self._inv_std = buffers.empty(channels)
        gamma, beta = self.layer.gamma, self.layer.beta
        self._grad_gamma = buffers.empty(channels) if gamma is None else gamma.grad
        self._grad_beta = buffers.empty(channels) if beta is None else beta.grad
        self._grad_x = buffers.gradient(input_shape)
        self._shift_factor = buffers.scalar(self._update)
        self._shift_update = buffers.empty(channels)
        self._moving_before = [buffers.empty(channels) for _ in range(2)]
        # All arguments but the batch are the same at every step.
        self._normalize = partial(
            ops.batch_norm_forward,
            gamma=self._gamma,
            beta=self._beta,
            running_mean=self._moving_mean,
            running_var=self._moving_variance,
            momentum=self._update,
            eps=self.layer.epsilon,
            unbiased_running_var=False,
            negative_slope=self.negative_slope,
            channel_axis=self._axis,
            out=(self._y, self._mean, self._inv_std),
        )
        self._differentiate = partial(
            ops.batch_norm_backward,
            gamma=self._gamma,
            beta=self._beta,
            mean=self._mean,
            inv_std=self._inv_std,
            negative_slope=self.negative_slope,
            channel_axis=self._axis,
            out=(self._grad_x, self._grad_gamma, self._grad_beta),
        )

    def forward(self, x: Array) -> Array:
        """Normalise by the batch's statistics, rectify, and move the moving statistics."""
        self._x = x
        np.copyto(self._moving_before[0], self._moving_mean)
        np.copyto(self._moving_before[1], self._moving_variance)
        self._normalize(x)
        if self.input_shift is not None:
            np.multiply(self.input_shift, self._shift_factor, self._shift_update)
            np.add(self._moving_mean, self._shift_update, self._moving_mean)
        return self._y

    def batch_statistics(self) -> tuple[Array, Array]:
        """Mean and variance of each channel of the latest input, less the bias before."""
        variance = 1 / (self._inv_std * self._inv_std) - self.layer.epsilon
        return self._mean, np.maximum(variance, 0)

    def undo(self) -> None:
        """Take the batch out of the moving statistics again: its loss was not usable."""
        np.copyto(self._moving_mean, self._moving_before[0])
        np.copyto(self._moving_variance, self._moving_before[1])

    def backward(self, grad: Array) -> Array:
        """Write the gradients of gamma and beta; return grad_x."""
        self._differentiate(grad, self._x)
        return self._grad_x


class MovingNormStep(NormStep):
    """Inference, and training of a frozen layer: the moving statistics are constants."""

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, and for grad_x where layers before this one train."""
        super().bind(input_shape, buffers, grad_input=grad_input)
        self._gradients = None
        if grad_input:
            channels = self._moving_mean.shape
            self._gradients = (
                buffers.gradient(input_shape),
                buffers.empty(channels),
                buffers.empty(channels),
            )

    def forward(self, x: Array) -> Array:
        """Normalise by the moving statistics, and rectify."""
        self._x = x
        ops.batch_norm_inference(
            x,
            self._gamma,
            self._beta,
            self._moving_mean,
            self._moving_variance,
            eps=self.layer.epsilon,
            negative_slope=self.negative_slope,
            channel_axis=self._axis,
            out=self._y,
        )
        return self._y

    def without_rectifier(self) -> Array:
        """Return what the layer alone gives for the latest input, as a new array."""
        return ops.batch_norm_inference(
            self._x,
            self._gamma,
            self._beta,
            self._moving_mean,
            self._moving_variance,
            eps=self.layer.epsilon,
            channel_axis=self._axis,
        )

    def backward(self, grad: Array) -> Array:
        """Return grad_x = gamma * inv_std * grad; there are no statistics in it."""
        if self._gradients is None:
            return grad
        ops.batch_norm_inference_backward(
            grad,
            self._x,
            self._gamma,
            self._beta,
            self._moving_mean,
            self._moving_variance,
            eps=self.layer.epsilon,
            negative_slope=self.negative_slope,
            channel_axis=self._axis,
            out=self._gradients,
        )
        return self._gradients[0]
