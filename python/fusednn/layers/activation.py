"""Layers that apply a function to each element (softmax: to each row)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fusednn import activations
from fusednn._arguments import check_number, check_optional_number
from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step


class Activation(Layer):
    """``y = activation(x)``.

    Parameters
    ----------
    activation : str or activation object
        See `fusednn.activations`. Note Keras' defaults: ``"leaky_relu"`` has slope 0.2 here, the
        layer `LeakyReLU` has 0.3.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step, or none for the linear activation."""
        return activation_steps(self.activation)

    def as_activation(self) -> activations.Activation:
        """Return the function that the layer applies."""
        return self.activation

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"activation": activations.serialize(self.activation)}


class LeakyReLU(Layer):
    """``y = x if x > 0 else negative_slope * x``.

    Parameters
    ----------
    negative_slope : float
        At least 0; 0.3 by default, as in Keras (PyTorch: 0.01).
    **kwargs
        Of `Layer`; and Keras 2's ``alpha``, another name of `negative_slope`.

    Notes
    -----
    Directly after a `BatchNormalization` both run as one kernel.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = check_number("negative_slope", negative_slope, minimum=0)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        return [ActivationStep(self.as_activation())]

    def as_activation(self) -> activations.Activation:
        """Return the function that the layer applies."""
        return activations.LeakyReLU(self.negative_slope)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"negative_slope": self.negative_slope}


class ELU(Layer):
    """``y = x if x > 0 else alpha * (exp(x) - 1)``.

    Parameters
    ----------
    alpha : float
        At least 0; 1 by default, as in PyTorch.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = check_number("alpha", alpha, minimum=0)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        return [ActivationStep(self.as_activation())]

    def as_activation(self) -> activations.Activation:
        """Return the function that the layer applies."""
        return activations.ELU(self.alpha)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"alpha": self.alpha}


class Softmax(Layer):
    """``y = exp(x) / sum(exp(x))`` over the last axis, or over `axis`.

    Parameters
    ----------
    axis : int or sequence of int
        An axis, the batch being axis 0, or several.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = activations.Softmax(axis).axis

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the input; ValueError where it has no such axis."""
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        rank = len(input_shape)
        if not all(-rank <= axis < rank for axis in axes):
            raise ValueError(
                f"`axis` of layer '{self.name}' must be an axis of the input, of shape "
                f"{input_shape}. Received: axis={self.axis}"
            )
        return input_shape

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        return [ActivationStep(self.as_activation())]

    def as_activation(self) -> activations.Activation:
        """Return the function that the layer applies."""
        return activations.Softmax(self.axis)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {"axis": self.axis}


class ReLU(Layer):
    """``y = min(x, max_value) if x > threshold else negative_slope * (x - threshold)``.

    Parameters
    ----------
    max_value : float, optional
        At least 0; None is no bound.
    negative_slope : float
        At least 0.
    threshold : float
        At least 0.
    **kwargs
        Of `Layer`.

    Notes
    -----
    The gradient is 0 where x >= `max_value`. Without `max_value` and `threshold` the kernel of
    `LeakyReLU` runs, fused with a `BatchNormalization` directly before it.
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_value = check_optional_number("max_value", max_value, minimum=0)
        self.negative_slope = check_number("negative_slope", negative_slope, minimum=0)
        self.threshold = check_number("threshold", threshold, minimum=0)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step: the kernel where it computes this, else NumPy."""
        if self.max_value is None and self.threshold == 0:
            return [ActivationStep(activations.LeakyReLU(self.negative_slope))]
        return [BoundedRectifierStep(self)]

    def as_activation(self) -> activations.Activation:
        """Return the function that the layer applies; ValueError where there is no such object."""
        if self.max_value is None and self.threshold == 0:
            if self.negative_slope == 0:
                return activations.relu
            return activations.LeakyReLU(self.negative_slope)
        if (self.max_value, self.negative_slope, self.threshold) == (6, 0, 0):
            return activations.relu6
        raise ValueError(
            "`activation` must not be a ReLU with a bound other than 6 or with a threshold: put "
            f"the layer after this one. Received: max_value={self.max_value}, "
            f"negative_slope={self.negative_slope}, threshold={self.threshold}"
        )

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        }


def activation_steps(activation: activations.Activation) -> list[Step]:
    """Make the steps of an activation object: none for the linear one."""
    return [] if isinstance(activation, activations.Linear) else [ActivationStep(activation)]


class ActivationStep(Step):
    """An activation object on preallocated arrays.

    Most derivatives read the output only, so a plan sets `in_place` where `can_overwrite` and the
    step before does not need what it returned: then y overwrites x.
    """

    in_place = False

    def __init__(self, activation: activations.Activation) -> None:
        self.activation = activation
        self.runs_on_gpu = activation.runs_on_gpu

    @property
    def can_overwrite(self) -> bool:
        """Whether the derivative is known without x."""
        return not self.activation.needs_input

    @property
    def negative_slope(self) -> float | None:
        """Slope below 0 of a rectifier; None for all other functions."""
        if isinstance(self.activation, activations.LeakyReLU):
            return self.activation.negative_slope
        return None

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take an array for y, unless it overwrites x, and one for grad_x.

        The rectifiers' kernel overwrites `grad`; the others need it beside their result.
        """
        self._own_y = None if self.in_place else buffers.output(input_shape)
        self._grad_x: Array | None = None
        if grad_input and self.negative_slope is None:
            self._grad_x = buffers.gradient(input_shape)
        self._forward = self.activation.forward
        self._backward = self.activation.backward
        if self.activation.work_arrays:
            work = buffers.empty((self.activation.work_arrays, *input_shape))
            self._forward = partial(self._forward, work=work)
            self._backward = partial(self._backward, work=work)

    def forward(self, x: Array) -> Array:
        """Return activation(x)."""
        self._x = x
        self._y = x if self._own_y is None else self._own_y
        return self._forward(x, out=self._y)

    def backward(self, grad: Array) -> Array:
        """Return grad_x."""
        out = grad if self._grad_x is None else self._grad_x
        return self._backward(grad, self._x, self._y, out=out)


class BoundedRectifierStep(Step):
    """ReLU with an upper bound or a threshold, in NumPy."""

    runs_on_gpu = True

    def __init__(self, layer: ReLU) -> None:
        self._max_value = math.inf if layer.max_value is None else layer.max_value
        self._negative_slope = layer.negative_slope
        self._threshold = layer.threshold

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, for what lies below the threshold, and for the two masks."""
        self._y = buffers.output(input_shape)
        self._low = buffers.temporary(input_shape)
        self._below = buffers.empty(input_shape, np.bool_)
        self._bounded = buffers.empty(input_shape, np.bool_)

    def forward(self, x: Array) -> Array:
        """Return the bounded ReLU of x."""
        np.less_equal(x, self._threshold, out=self._below)
        np.greater_equal(x, self._max_value, out=self._bounded)
        # Where max_value < threshold an element may be in both masks: what is below counts.
        np.greater(self._bounded, self._below, out=self._bounded)
        np.minimum(x, self._max_value, out=self._y)
        np.subtract(x, self._threshold, out=self._low)
        np.multiply(self._low, self._negative_slope, out=self._low)
        np.copyto(self._y, self._low, where=self._below)
        return self._y

    def backward(self, grad: Array) -> Array:
        """Return grad_x in the place of `grad`."""
        np.copyto(grad, 0, where=self._bounded)
        np.multiply(grad, self._negative_slope, out=self._low)
        np.copyto(grad, self._low, where=self._below)
        return grad
