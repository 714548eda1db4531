"""What `BatchNormalization` does with a batch, alone or fused with the rectifier after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from fusednn import _core, ops
from fusednn.devices import CPU
from fusednn.layers.buffers import Buffers
from fusednn.layers.dense import DenseStep
from fusednn.layers.step import Array, Shape, Step

if TYPE_CHECKING:
    from fusednn.layers.batch_normalization import BatchNormalization


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

    def __init__(self, layer: BatchNormalization) -> None:
        super().__init__(layer)
        self.has_gradients = layer.gamma is not None or layer.beta is not None
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
        self._moving_before = buffers.empty(channels), buffers.empty(channels)
        self._on_cpu = buffers.device is CPU
        self._x: Array | None = None
        self._grad: Array | None = None

    def forward(self, x: Array) -> Array:
        """Normalise by the batch's statistics, rectify, and move the moving statistics."""
        if x is not self._x:  # only the first layer's ever is another array
            self._x, self._grad = x, None
            stays = self._on_cpu and x.flags.c_contiguous
            self._normalize = self._bound_forward(x) if stays else partial(self._forward_of, x)
        self._normalize()
        return self._y

    def _bound_forward(self, x: Array) -> Callable[[], None]:
        """Return `_forward_of` this array as one call of C, without arguments."""
        bound = _core.bound_batch_norm_forward(
            x,
            self._gamma,
            self._beta,
            self._moving_mean,
            self._moving_variance,
            self._update,
            self.layer.epsilon,
            self.negative_slope,
            self._axis,
            self._y,
            self._mean,
            self._inv_std,
            *self._moving_before,
            self.input_shift,
        )
        return cast("Callable[[], None]", bound)

    def _forward_of(self, x: Array) -> None:
        np.copyto(self._moving_before[0], self._moving_mean)
        np.copyto(self._moving_before[1], self._moving_variance)
        ops.batch_norm_forward(
            x,
            self._gamma,
            self._beta,
            running_mean=self._moving_mean,
            running_var=self._moving_variance,
            momentum=self._update,
            eps=self.layer.epsilon,
            unbiased_running_var=False,
            negative_slope=self.negative_slope,
            channel_axis=self._axis,
            out=(self._y, self._mean, self._inv_std),
        )
        if self.input_shift is not None:
            np.multiply(self.input_shift, self._shift_factor, self._shift_update)
            np.add(self._moving_mean, self._shift_update, self._moving_mean)

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
        if grad is not self._grad:
            self._grad = grad
            self._differentiate = self._backward_of(grad)
        self._differentiate()
        return self._grad_x

    def _backward_of(self, grad: Array) -> Callable[[], object]:
        """Return what writes all gradients, from those of y in this array."""
        x = self._x
        assert x is not None
        given = grad, x, self._gamma, self._beta, self._mean, self._inv_std
        results = self._grad_x, self._grad_gamma, self._grad_beta
        if self._on_cpu and x.flags.c_contiguous and grad.flags.c_contiguous:
            bound = _core.bound_batch_norm_backward(
                *given, self.negative_slope, self._axis, *results
            )
            return cast("Callable[[], None]", bound)
        return partial(
            ops.batch_norm_backward,
            *given,
            negative_slope=self.negative_slope,
            channel_axis=self._axis,
            out=results,
        )


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
