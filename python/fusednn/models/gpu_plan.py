"""A plan on a GPU: its work, given once and replayed as CUDA graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn.devices.captured import CapturedWork
from fusednn.devices.cuda import Cuda
from fusednn.layers import Layer
from fusednn.layers.activation import ActivationStep
from fusednn.layers.buffers import Buffers
from fusednn.layers.step import Array, Shape
from fusednn.models.penalties import Penalties
from fusednn.models.plan import Plan
from fusednn.models.watch import Watch
from fusednn.optimizers import Optimizer
from fusednn.optimizers.device_step import DeviceStep, device_step
from fusednn.variable import Variable


class GpuPlan(Plan):
    """A plan whose steps compute on a GPU, between a batch and outputs that are NumPy's.

    The loss, with the activation that it takes in, is computed by NumPy, as are functions of a
    user's own at the end: the outputs are few, and the host has to wait for the loss anyway, to
    tell it to callbacks and to leave a step out where it is not finite. So a training step is two
    pieces of work on the GPU: from the batch to the outputs, and from their gradient to the new
    weights. Each becomes a CUDA graph (`CapturedWork`); what the host decides from batch to batch,
    it writes to the GPU before: the batch, dropout's masks, learning rate and number of the step.

    Parameters
    ----------
    device : Cuda
    layers, input_shape, dtype, trained, logits_activation
        See `Plan`; the weights are on the device.

    Raises
    ------
    NotImplementedError
        A layer has no form for GPUs.
    """

    def __init__(
        self,
        device: Cuda,
        layers: Sequence[Layer],
        input_shape: Shape,
        dtype: np.dtype[Any],
        *,
        trained: Sequence[bool] | None,
        logits_activation: str | None = None,
    ) -> None:
        self._device = device
        with device.working():
            super().__init__(
                layers, input_shape, dtype, trained=trained, logits_activation=logits_activation
            )
            self._input = device.empty(input_shape, dtype)
        self._pool = device.cupy.cuda.MemoryPool()
        self._give_forward = CapturedWork(device, self._forward_on_gpu, self._pool)
        self._step: DeviceStep | None = None
        self._give_update: CapturedWork | None = None
        self._penalties: Penalties | None = None

    def _bind(
        self, shapes: Sequence[Shape], dtype: np.dtype[Any], *, training: bool, first: int
    ) -> Array:
        """See `Plan._bind`; the last steps may be the host's."""
        steps = self._forward_steps
        split = len(steps)
        while split and not steps[split - 1].runs_on_gpu:
            if not isinstance(steps[split - 1], ActivationStep):
                break
            split -= 1
        for step in steps[:split]:
            if not step.runs_on_gpu:
                raise NotImplementedError(
                    f"`layers` must all have a form for GPUs under fusednn.device("
                    f"{self._device.name!r}). Received: layer '{step.owner}', whose "
                    f"{type(step).__name__} has none before the last layer"
                )
        on_gpu = Buffers(
            dtype, max(map(math.prod, shapes)), keep_outputs=training, device=self._device
        )
        on_host = Buffers(dtype, max(map(math.prod, shapes[split:])), keep_outputs=training)
        for i, step in enumerate(steps):
            buffers = on_gpu if i < split else on_host
            step.bind(shapes[i], buffers, grad_input=training and i > first)
        if self._head is not None:
            self._head.bind(self.output_shape, on_host, grad_input=False)
        self._steps_on_gpu = steps[:split]
        self._last_steps = steps[split:]
        #: What steps on the GPU train.
        self._backward_on_gpu = steps[first:split][::-1]
        self._last_backward = steps[max(first, split) :][::-1]
        self._grad = on_gpu.gradient(shapes[split])
        self._host_z = self._device.pinned(shapes[split], dtype)
        self._host_grad = self._device.pinned(shapes[split], dtype)
        return on_host.gradient(self.output_shape)

    def forward(self, x: Array) -> Array:
        """See `Plan.forward`: from NumPy's arrays, or ones of this GPU, to NumPy's."""
        if isinstance(x, np.ndarray):
            self._device.write(self._input, x)
        else:
            self._device.copy(self._input, x)
        for prepare in self._prepare:
            prepare()
        if self.watch is None:
            self._give_forward()
        else:
            self._forward_on_gpu_watched(self.watch)
        self._device.read_into(self._z, self._host_z)
        z = self._host_z
        for step in self._last_steps:
            z = step.forward(z)
            if self.watch is not None:
                self.watch.saw_output(step, z)
        if self.watch is not None and self._head is not None:
            self.watch.saw_output(self._head, self._head.forward(z))
        return z

    def _forward_on_gpu_watched(self, watch: Watch) -> None:
        """Do the work of `_forward_on_gpu` step by step, nothing of it replayed."""
        watch.begin(self)
        with self._device.working():
            x = self._input
            for step in self._steps_on_gpu:
                x = step.forward(x)
                watch.saw_output(step, x)
            self._z = x

    def _forward_on_gpu(self) -> None:
        x = self._input
        for step in self._steps_on_gpu:
            x = step.forward(x)
        self._z = x

    def undo(self) -> None:
        """See `Plan.undo`."""
        with self._device.working():
            super().undo()

    def backward(self) -> None:
        """See `Plan.backward`."""
        self._write_gradient()
        with self._device.working():
            self._give_backward()

    def _write_gradient(self) -> None:
        grad = self.grad_output
        if self.watch is not None and self._head is not None:
            self.watch.saw_gradient(self._head, grad)
        for step in self._last_backward:
            if self.watch is not None:
                self.watch.saw_gradient(step, grad)
            grad = step.backward(grad)
        # The copy of the batch before is done: its update came before this batch's outputs.
        np.copyto(self._host_grad, grad)
        self._device.write(self._grad, self._host_grad)

    def _give_backward(self) -> None:
        grad = self._grad
        for step in self._backward_on_gpu:
            if self.watch is not None:
                self.watch.saw_gradient(step, grad)
            grad = step.backward(grad)
        for add_shares in self._add_shares:
            add_shares()
        if self.watch is not None:
            self.watch.saw_weights()

    def update(
        self,
        penalties: Penalties,
        optimizer: Optimizer,
        grads: tuple[Array, ...],
        variables: tuple[Variable, ...],
    ) -> None:
        """See `Plan.update`."""
        step = self._step
        if step is None or penalties is not self._penalties or not step.fits(grads, variables):
            step = device_step(optimizer, grads, variables, self._device)
            self._step, self._penalties = step, penalties
            if step is not None:
                self._give_update = CapturedWork(self._device, self._update_on_gpu, self._pool)
        self._write_gradient()
        if step is None:
            with self._device.working():
                self._give_backward()
                penalties.add_gradients()
                optimizer.apply(grads, variables)
            return
        step.prepare()
        if self.watch is None:
            assert self._give_update is not None
            self._give_update()
        else:
            with self._device.working():
                self._update_on_gpu()
        step.finish()

    def _update_on_gpu(self) -> None:
        assert self._step is not None
        assert self._penalties is not None
        self._give_backward()
        self._penalties.add_gradients()
        self._step.give()
