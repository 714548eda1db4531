"""Signals of the batches that a model is trained on, taken while their arrays are there.

Mean and spread of an array are one pass of `ops.batch_norm_statistics` over it. Where the input of
a normalisation is asked for, its kernel has found them already, and those of its output follow from
gamma and beta: nothing is read twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusednn import ops
from fusednn.devices import device_of
from fusednn.diagnostics.activations import can_die, unsaturated
from fusednn.diagnostics.signals import LayerSignals, Signals
from fusednn.layers import Layer
from fusednn.layers.batch_norm_steps import BatchNormStep, MovingNormStep, NormStep
from fusednn.layers.step import Array, Step
from fusednn.models.plan import Plan


@dataclass
class _Seen:
    """What was seen of one layer: sums over batches."""

    batches: int = 0
    mean: float = 0.0
    variance: float = 0.0
    saturated: float = 0.0
    alive: Array | None = None  # units that were not 0 for some sample
    gradients: int = 0
    gradient_variance: float = 0.0
    weight_gradients: int = 0
    weight_gradient: float = 0.0


@dataclass
class _Batch:
    """The plan that a batch is on, and whose gradients were seen."""

    plan: Plan
    #: The last step of each layer, by the layer's place.
    last: dict[int, Step] = field(default_factory=dict)
    gradients: set[int] = field(default_factory=set)


class Recording:
    """A `Watch` that sums up what it sees until `signals` is asked for."""

    def __init__(self) -> None:
        self._seen: list[_Seen] = []
        self._layers: list[Layer] = []
        self._batch: _Batch | None = None

    def begin(self, plan: Plan) -> None:
        """Expect the steps of this plan."""
        if self._layers != plan.layers:
            self._layers = list(plan.layers)
            self._seen = [_Seen() for _ in self._layers]
        self._batch = _Batch(plan, {step.place: step for step in plan.steps})

    def saw_output(self, step: Step, y: Array) -> None:
        """Look at the output of a step: it is the layer's, if no other step of it follows."""
        assert self._batch is not None
        if isinstance(step, BatchNormStep):
            self._saw_batch_norm(self._batch, step)
        elif isinstance(step, MovingNormStep) and step.rectifier_place is not None:
            self._saw_values(step.place, step.without_rectifier())
        elif self._batch.last[step.place] is step and not self._norm_tells(step):
            self._saw_values(step.place, y)
        if isinstance(step, NormStep) and step.rectifier_place is not None:
            self._saw_values(step.rectifier_place, y)

    def _norm_tells(self, step: Step) -> bool:
        """Whether the next step finds all that is asked of the layer."""
        assert self._batch is not None
        steps, layer = self._batch.plan.steps, self._layers[step.place]
        following = steps[steps.index(step) + 1 :]
        normalised = bool(following) and isinstance(following[0], BatchNormStep)
        return normalised and unsaturated(layer) is None and not can_die(layer)

    def _saw_batch_norm(self, batch: _Batch, step: BatchNormStep) -> None:
        mean, variance = (_on_host(array) for array in step.batch_statistics())
        steps = batch.plan.steps
        at = steps.index(step)
        before = steps[at - 1]
        if at and batch.last[before.place] is before and self._norm_tells(before):
            shift = step.input_shift
            own = mean if shift is None else mean + _on_host(shift)
            self._add(before.place, own, variance)
        layer = step.layer
        gamma = 1.0 if layer.gamma is None else layer.gamma.numpy().astype(np.float64)
        beta = np.zeros_like(mean) if layer.beta is None else layer.beta.numpy().astype(np.float64)
        self._add(step.place, beta, gamma**2 * variance / (variance + layer.epsilon))

    def _saw_values(self, place: int, y: Array) -> None:
        rows = y.reshape(len(y), -1)
        mean, m2, count = ops.batch_norm_statistics(rows)
        means, squares = _on_host(mean), _on_host(m2)
        self._add(place, means, squares / count)
        layer, seen = self._layers[place], self._seen[place]
        between = unsaturated(layer)
        if between is not None:
            outside = (rows < between[0]) | (rows > between[1])
            seen.saturated += float(outside.sum()) / rows.size
        if can_die(layer):
            alive = (means != 0) | (squares != 0)
            seen.alive = alive if seen.alive is None else seen.alive | alive

    def _add(self, place: int, means: Array, variances: Array) -> None:
        """Count a batch whose units have these means and variances."""
        seen = self._seen[place]
        seen.batches += 1
        seen.mean += float(means.mean())
        seen.variance += float(variances.mean() + means.var())

    def saw_gradient(self, step: Step, grad: Array) -> None:
        """Look at the gradient with respect to the output of a step."""
        assert self._batch is not None
        new = {step.place} - self._batch.gradients
        if isinstance(step, NormStep) and step.rectifier_place is not None:
            new |= {step.rectifier_place} - self._batch.gradients
        if not new:
            return
        mean, m2, count = ops.batch_norm_statistics(grad.reshape(len(grad), -1))
        means = _on_host(mean)
        # The loss is a mean over the samples: times their number it is that of a single one.
        variance = float((_on_host(m2) / count).mean() + means.var()) * len(grad) ** 2
        for place in new:
            self._seen[place].gradients += 1
            self._seen[place].gradient_variance += variance
        self._batch.gradients |= new

    def saw_weights(self) -> None:
        """Look at the gradients of the weights."""
        assert self._batch is not None
        plan = self._batch.plan
        for layer, trained, seen in zip(plan.layers, plan.trained, self._seen, strict=True):
            variables = [v for v in layer.weights if trained and v.trainable]
            if variables:
                size = ops.global_norm([v.value for v in variables])
                norm = ops.global_norm([v.grad for v in variables])
                seen.weight_gradients += 1
                seen.weight_gradient += norm / (size or 1.0)

    def signals(self) -> Signals | None:
        """Return the means over what was seen, and start anew; None if there was nothing."""
        if not any(seen.batches for seen in self._seen):
            return None
        found: list[LayerSignals] = []
        before = _Seen()
        for layer, own in zip(self._layers, self._seen, strict=True):
            # A layer without steps gives what it gets.
            seen = own if own.batches else before
            batches = max(seen.batches, 1)
            found.append(
                LayerSignals(
                    layer.name,
                    type(layer).__name__,
                    seen.mean / batches,
                    math.sqrt(seen.variance / batches),
                    seen.saturated / batches if unsaturated(layer) is not None else None,
                    None if own.alive is None else float(1.0 - own.alive.mean()),
                    _root_of_mean(seen.gradient_variance, seen.gradients),
                    own.weight_gradient / own.weight_gradients if own.weight_gradients else None,
                )
            )
            before = seen
        self._seen = [_Seen() for _ in self._layers]
        return Signals(tuple(found))


def _on_host(array: Any) -> Array:
    return device_of(array).read(array).astype(np.float64)


def _root_of_mean(total: float, count: int) -> float | None:
    return math.sqrt(total / count) if count else None
