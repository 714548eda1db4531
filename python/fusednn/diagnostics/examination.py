"""One batch sent through a model and back, layer by layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn import devices
from fusednn.diagnostics.activations import can_die, unsaturated
from fusednn.diagnostics.signals import LayerSignals, Signals
from fusednn.layers import Layer
from fusednn.layers.activation import ActivationStep
from fusednn.layers.buffers import Buffers
from fusednn.layers.dense_transpose import find_shared_kernels
from fusednn.layers.step import Step
from fusednn.models.data import as_targets
from fusednn.models.own_call import refuse_own_call
from fusednn.models.plan import steps_of
from fusednn.models.sequential import Sequential
from fusednn.randomness import own_generator

Array = np.ndarray[Any, np.dtype[Any]]


def examine(model: Sequential, x: ArrayLike, y: ArrayLike) -> Signals:
    """Send one batch through a compiled model and back, and look at every layer.

    Weights, moving statistics, the optimizer and the package's random generator stay as they are.
    Layers run in training mode, one by one and on the CPU. (`DiagnosticsCallback` looks at the
    batches of a training, on a GPU too.)

    Parameters
    ----------
    model : Sequential
        Compiled.
    x, y : array_like
        A batch, as of `Sequential.fit`.

    Raises
    ------
    ValueError, TypeError
        The model is not compiled, or the batch does not fit.
    NotImplementedError
        The model is on a GPU.
    """
    objective = model._compiled()
    if devices.current() is not devices.CPU:
        raise NotImplementedError("`examine` runs on the CPU alone.")
    refuse_own_call(model, "`examine`")
    inputs = model._fitting_inputs(x, "x")
    targets = as_targets(y, model.dtype, len(inputs))
    with own_generator(np.random.default_rng(0)), np.errstate(all="ignore"):
        return _examine(model, objective.loss, inputs, targets)


def _examine(model: Sequential, loss: Any, inputs: Array, targets: Array) -> Signals:
    outputs: list[Array] = []
    steps: list[list[Step]] = []
    signal = before = inputs
    made = [
        steps_of(layer, i, training=True, trainable=layer.trainable)
        for i, layer in enumerate(model._leaves)
    ]
    find_shared_kernels([step for own in made for step in own])
    for own in made:
        shapes = [signal.shape]
        for step in own:
            shapes.append(step.output_shape(shapes[-1]))
        buffers = Buffers(model.dtype, max(map(math.prod, shapes)), keep_outputs=True)
        for step, shape in zip(own, shapes, strict=False):
            step.bind(shape, buffers, grad_input=True)
            step.prepare()
            before, signal = signal, step.forward(signal)
            step.undo()
        steps.append(own)
        outputs.append(signal)
    last = steps[-1][-1] if steps[-1] else None
    if (
        isinstance(last, ActivationStep)
        and last.activation.is_link(loss.link)
        and not loss.from_logits
    ):
        # As in training: from logits, where probabilities would be clipped.
        steps[-1].pop()
        _, grad = loss.value_and_gradient(targets, before, from_logits=True)
    else:
        _, grad = loss.value_and_gradient(targets, signal)
    spreads: list[float] = []
    for own in reversed(steps):
        spreads.append(float(grad.std(dtype=np.float64)) * len(inputs))
        for step in reversed(own):
            grad = step.backward(grad)
    for own in steps:
        for step in own:
            step.add_shares()
    seen = zip(model._leaves, outputs, reversed(spreads), strict=True)
    return Signals(tuple(_signals(*of_layer) for of_layer in seen))


def _signals(layer: Layer, output: Array, gradient_std: float) -> LayerSignals:
    saturated = dead = None
    between = unsaturated(layer)
    if between is not None:
        saturated = float(((output < between[0]) | (output > between[1])).mean())
    if can_die(layer):
        dead = float((output == 0).reshape(len(output), -1).all(axis=0).mean())
    weights = layer.trainable_weights
    share = None
    if weights:
        size = math.sqrt(sum(float(np.vdot(v.value, v.value)) for v in weights))
        share = math.sqrt(sum(float(np.vdot(v.grad, v.grad)) for v in weights)) / (size or 1.0)
    return LayerSignals(
        layer.name,
        type(layer).__name__,
        float(output.mean(dtype=np.float64)),
        float(output.std(dtype=np.float64)),
        saturated,
        dead,
        gradient_std,
        share,
    )
