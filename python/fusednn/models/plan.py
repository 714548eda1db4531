"""A layer list turned into fused steps on arrays of one batch size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fusednn import devices
from fusednn.layers import Layer
from fusednn.layers.activation import ActivationStep
from fusednn.layers.activity import ActivityStep
from fusednn.layers.batch_norm_steps import BatchNormStep, NormStep
from fusednn.layers.buffers import Buffers
from fusednn.layers.dense import DenseStep
from fusednn.layers.dense_transpose import DenseTransposeStep, find_shared_kernels
from fusednn.layers.step import Array, Shape, Step
from fusednn.losses import Scratch
from fusednn.models.penalties import Penalties
from fusednn.models.watch import Watch
from fusednn.optimizers import Optimizer
from fusednn.variable import Variable


class Plan:
    """The steps of a model for batches of one shape, and all memory that they need.

    Parameters
    ----------
    layers : sequence of Layer
        Built layers.
    input_shape : tuple of int
        Shape of a batch.
    dtype : numpy.dtype
        Type of the data.
    trained : sequence of bool, or None
        Whether each layer is to be trained: training mode, with a backward pass. None: inference.
    logits_activation : str or None
        Name of an activation that the loss computes itself, from logits, in a stable form. If
        the model ends with it, `forward` stops before it.

    Notes
    -----
    Fusion leaves layers and weights as they are:

    - normalisation, rectifier -> one kernel with `negative_slope`;
    - matmul, bias, normalisation by the batch's statistics -> no bias (see `Dense`);
    - other activations overwrite their input where nobody else reads it.

    The gradient stops at the first step whose weights train: below it nothing is computed.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        dtype: np.dtype[Any],
        *,
        trained: Sequence[bool] | None,
        logits_activation: str | None = None,
    ) -> None:
        training = trained is not None
        flags = [False] * len(layers) if trained is None else trained
        unfused = (
            step
            for place, (layer, trainable) in enumerate(zip(layers, flags, strict=True))
            for step in steps_of(layer, place, training=training, trainable=trainable)
        )
        steps, shapes = fuse(unfused, input_shape)
        find_shared_kernels(steps)
        #: What the plan is of, and which of it trains.
        self.layers = list(layers)
        self.trained = list(flags)
        #: Who looks at the steps of the next batch.
        self.watch: Watch | None = None
        self.output_shape = shapes[-1]
        self._head = _pop_head(steps, logits_activation)
        self._forward_steps = steps
        first = next((i for i, s in enumerate(steps) if s.has_gradients), len(steps))
        self._activities: list[Any] = [step for step in steps if hasattr(step, "penalty")]
        #: Where the loss writes its gradient with respect to what `forward` returned.
        self.grad_output = self._bind(shapes, dtype, training=training, first=first)
        #: Where the loss keeps its intermediate results.
        self.scratch = Scratch.of(self.output_shape, dtype)
        # Bound methods, looked up once.
        self._backward_steps = steps[first:][::-1] if training else []
        self._prepare = [s.prepare for s in steps if type(s).prepare is not Step.prepare]
        self._forward = [step.forward for step in steps]
        self._backward = [step.backward for step in self._backward_steps]
        self._add_shares = [
            s.add_shares for s in self._backward_steps if type(s).add_shares is not Step.add_shares
        ]

    def _bind(
        self, shapes: Sequence[Shape], dtype: np.dtype[Any], *, training: bool, first: int
    ) -> Array:
        """Give all steps their arrays; return the one for the gradient of the output.

        `first` is the place of the first step whose weights train.
        """
        buffers = Buffers(dtype, max(map(math.prod, shapes)), keep_outputs=training)
        for i, step in enumerate(self._forward_steps):
            step.bind(shapes[i], buffers, grad_input=training and i > first)
        if self._head is not None:
            self._head.bind(self.output_shape, buffers, grad_input=False)
        return buffers.gradient(self.output_shape)

    @property
    def returns_logits(self) -> bool:
        """Whether `forward` leaves the last activation to the loss."""
        return self._head is not None

    def forward(self, x: Array) -> Array:
        """Return the output, or the logits; valid until the next call."""
        for prepare in self._prepare:
            prepare()
        if self.watch is not None:
            return self._forward_watched(self.watch, x)
        for forward in self._forward:
            x = forward(x)
        return x

    @property
    def steps(self) -> list[Step]:
        """What `forward` runs, and the activation that it leaves to the loss."""
        return self._forward_steps if self._head is None else [*self._forward_steps, self._head]

    def _forward_watched(self, watch: Watch, x: Array) -> Array:
        watch.begin(self)
        for step in self._forward_steps:
            x = step.forward(x)
            watch.saw_output(step, x)
        if self._head is not None:
            watch.saw_output(self._head, self._head.forward(x))
        return x

    def _backward_watched(self, watch: Watch) -> None:
        grad = self.grad_output
        if self._head is not None:
            watch.saw_gradient(self._head, grad)
        for step in self._backward_steps:
            watch.saw_gradient(step, grad)
            grad = step.backward(grad)
        for add_shares in self._add_shares:
            add_shares()
        watch.saw_weights()

    def activate(self, z: Array) -> Array:
        """Return the model's output for what `forward` returned."""
        return z if self._head is None else self._head.forward(z)

    def output(self, x: Array) -> Array:
        """Return the model's output for x; valid until the next call."""
        with np.errstate(all="ignore"):  # as other frameworks: NaN in, NaN out
            return self.activate(self.forward(x))

    def activity_penalty(self) -> float:
        """Return what activity regularizers add to the loss of the latest batch."""
        return float(sum(step.penalty for step in self._activities))

    def undo(self) -> None:
        """Put back what the latest `forward` changed: a step that fails changes nothing."""
        for step in self._forward_steps:
            step.undo()

    def backward(self) -> None:
        """Write the gradients of all trained weights, from `grad_output`."""
        if self.watch is not None:
            self._backward_watched(self.watch)
            return
        grad = self.grad_output
        for backward in self._backward:
            grad = backward(grad)
        for add_shares in self._add_shares:
            add_shares()

    def update(
        self,
        penalties: Penalties,
        optimizer: Optimizer,
        grads: tuple[Array, ...],
        variables: tuple[Variable, ...],
    ) -> None:
        """Make the step of the optimizer that the latest batch asks for."""
        self.backward()
        penalties.add_gradients()
        optimizer.apply(grads, variables)


def new_plan(
    layers: Sequence[Layer],
    input_shape: Shape,
    dtype: np.dtype[Any],
    *,
    trained: Sequence[bool] | None,
    logits_activation: str | None,
) -> Plan:
    """Make a plan for the device that is current; see `Plan`."""
    device = devices.current()
    if device is devices.CPU:
        return Plan(
            layers, input_shape, dtype, trained=trained, logits_activation=logits_activation
        )
    from fusednn.devices.cuda import Cuda
    from fusednn.models.gpu_plan import GpuPlan

    assert isinstance(device, Cuda)
    return GpuPlan(
        device, layers, input_shape, dtype, trained=trained, logits_activation=logits_activation
    )


def steps_of(layer: Layer, place: int, *, training: bool, trainable: bool) -> list[Step]:
    """Return what runs for a layer, with the penalty on its outputs."""
    steps = layer.steps_to_run(training=training, trainable=trainable)
    if layer.activity_regularizer is not None:
        steps = [*steps, ActivityStep(layer.activity_regularizer)]
    for step in steps:
        step.owner = layer.name
        step.place = place
    return steps


#: Steps whose output the next one may overwrite: their own `backward` does not read it.
_KEEPS_NO_OUTPUT = (DenseStep, DenseTransposeStep, NormStep)


def fuse(steps: Iterable[Step], input_shape: Shape) -> tuple[list[Step], list[Shape]]:
    """Merge neighbours that one kernel computes.

    Returns
    -------
    list of Step, list of tuple of int
        The steps that are left, and the shapes before, between and after them.
    """
    fused: list[Step] = []
    shapes = [input_shape]
    for step in steps:
        before = fused[-1] if fused else None
        shape = shapes[-1]
        if isinstance(step, ActivationStep):
            rectifier = step.negative_slope is not None
            if rectifier and isinstance(before, NormStep) and before.negative_slope is None:
                before.negative_slope = step.negative_slope
                before.rectifier_place = step.place
                continue
            step.in_place = step.can_overwrite and isinstance(before, _KEEPS_NO_OUTPUT)
        elif (
            isinstance(step, BatchNormStep)
            and isinstance(before, DenseStep)
            and step.layer.channel_axis(len(shape)) == len(shape) - 1
        ):
            step.take_bias_of(before)
        fused.append(step)
        shapes.append(step.output_shape(shape))
    return fused, shapes


def _pop_head(steps: list[Step], logits_activation: str | None) -> ActivationStep | None:
    last = steps[-1] if steps else None
    if isinstance(last, ActivationStep) and last.activation.is_link(logits_activation):
        del steps[-1]
        last.in_place = False  # the loss reads the logits
        return last
    return None
