"""BatchNorm + leaky ReLU in plain NumPy, with reused buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.peers.numpy_dtypes import refuse_short
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import EPS, MOMENTUM, NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    refuse_short(case)
    if case.variant == "in_place":
        raise UnavailableError("in place is fusednn's own form")
    plain = PlainBatchNorm(inputs.activations(case))
    calls = {
        "forward": [plain.forward],
        "backward": [plain.backward],
        "both": [plain.forward, plain.backward],
        "inference": [plain.inference],
    }[case.variant]

    def run() -> None:
        for call in calls:
            call()

    def answer() -> Answer:
        plain.forward()
        run()
        return sample_channels(plain.data, plain.results())

    return Contender(run, answer, reuses=True)


class PlainBatchNorm:
    """The formulas, one NumPy call after the other."""

    def __init__(self, data: inputs.Activations) -> None:
        self.data = data
        self.shape = data.layout.per_channel()
        self.axes = data.layout.other_axes
        self.xhat = inputs.aligned_empty(data.x.shape, data.x.dtype)
        self.y = inputs.aligned_empty(data.x.shape, data.x.dtype)
        self.grad_x = inputs.aligned_empty(data.x.shape, data.x.dtype)
        self.scratch = inputs.aligned_empty(data.x.shape, data.x.dtype)
        self.gamma, self.beta = self.broadcast(data.gamma), self.broadcast(data.beta)
        self.running = (data.running_mean.copy(), data.running_var.copy())
        self.slope = data.x.dtype.type(NEGATIVE_SLOPE)

    def broadcast(self, vector: NDArray[Any]) -> NDArray[Any]:
        """Shape a vector over the channels for the arrays."""
        return vector.reshape(self.shape)

    def results(self) -> dict[str, Any]:
        """Return everything that was computed."""
        results = {"y": self.y}
        if hasattr(self, "grad_gamma"):
            results |= {
                "grad_x": self.grad_x,
                "grad_gamma": self.grad_gamma.reshape(-1),
                "grad_beta": self.grad_beta.reshape(-1),
            }
        return results

    def _activate(self) -> None:
        np.multiply(self.y, self.slope, out=self.scratch)
        np.maximum(self.y, self.scratch, out=self.y)

    def forward(self) -> None:
        """Compute y, and what the backward pass needs."""
        x = self.data.x
        mean = x.mean(self.axes, keepdims=True)
        np.subtract(x, mean, out=self.xhat)
        np.multiply(self.xhat, self.xhat, out=self.y)
        var = self.y.mean(self.axes, keepdims=True)
        for running, batch in zip(self.running, (mean, var), strict=True):
            running *= 1 - MOMENTUM
            running += MOMENTUM * batch.reshape(-1)
        self.inv_std = 1 / np.sqrt(var + var.dtype.type(EPS))
        np.multiply(self.xhat, self.inv_std, out=self.xhat)
        np.multiply(self.xhat, self.gamma, out=self.y)
        np.add(self.y, self.beta, out=self.y)
        self._activate()

    def backward(self) -> None:
        """Compute the gradients."""
        g, scratch = self.grad_x, self.scratch
        np.multiply(self.data.grad, self.slope, out=g)
        np.copyto(g, self.data.grad, where=self.y > 0)
        np.multiply(g, self.xhat, out=scratch)
        self.grad_gamma = scratch.sum(self.axes, keepdims=True)
        self.grad_beta = g.sum(self.axes, keepdims=True)
        count = g.size // self.grad_beta.size
        np.multiply(self.xhat, self.grad_gamma / count, out=scratch)
        np.subtract(g, scratch, out=g)
        np.subtract(g, self.grad_beta / count, out=g)
        np.multiply(g, self.gamma * self.inv_std, out=g)

    def inference(self) -> None:
        """Compute y with the statistics of the population."""
        inv_std = 1 / np.sqrt(self.data.running_var + self.data.running_var.dtype.type(EPS))
        np.subtract(self.data.x, self.broadcast(self.data.running_mean), out=self.y)
        np.multiply(self.y, self.broadcast(self.data.gamma * inv_std), out=self.y)
        np.add(self.y, self.beta, out=self.y)
        self._activate()
