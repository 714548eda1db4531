"""A training step in plain NumPy: a peer in float32, and in float64 the right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks.inputs import Training
from fusednn.benchmarks.shapes import EPS, MOMENTUM, NEGATIVE_SLOPE, STEP_LEARNING_RATE, Model

Array = NDArray[Any]


class PlainNetwork:
    """Dense + BatchNorm + leaky ReLU, a Dense with bias at the end, cross-entropy, Adam."""

    def __init__(self, data: Training, model: Model, dtype: np.dtype[Any]) -> None:
        self.x = data.x.astype(dtype)
        self.labels = data.labels
        self.kernels = [kernel.astype(dtype) for kernel in data.kernels]
        hidden = model.widths[1:-1]
        self.gammas = [np.ones(width, dtype) for width in hidden]
        self.betas = [np.zeros(width, dtype) for width in hidden]
        self.running = [(np.zeros(width, dtype), np.ones(width, dtype)) for width in hidden]
        self.bias = np.zeros(model.widths[-1], dtype)
        self.params = [*self.kernels, *self.gammas, *self.betas, self.bias]
        self.states = [(np.zeros_like(p), np.zeros_like(p)) for p in self.params]
        self.steps = 0

    def step(self) -> float:
        """Make one update and return the loss before it."""
        loss, grads = self._gradients()
        self._adam(grads)
        return loss

    def _gradients(self) -> tuple[float, list[Array]]:
        saved: list[tuple[Array, Array, Array, Array]] = []
        a = self.x
        layers = zip(self.kernels[:-1], self.gammas, self.betas, self.running, strict=True)
        for kernel, gamma, beta, running in layers:
            z = a @ kernel
            mean, var = z.mean(0), z.var(0)
            for average, batch in zip(running, (mean, var), strict=True):
                average *= 1 - MOMENTUM
                average += MOMENTUM * batch
            inv_std = 1 / np.sqrt(var + z.dtype.type(EPS))
            z -= mean
            z *= inv_std
            y = z * gamma + beta
            y = np.maximum(y, y * z.dtype.type(NEGATIVE_SLOPE))
            saved.append((a, z, y, inv_std))
            a = y
        logits = a @ self.kernels[-1] + self.bias
        logits -= logits.max(1, keepdims=True)
        exps = np.exp(logits)
        sums = exps.sum(1, keepdims=True)
        rows = np.arange(len(logits))
        loss = float(np.mean(np.log(sums[:, 0]) - logits[rows, self.labels]))
        grad = exps / sums
        grad[rows, self.labels] -= 1
        grad /= len(logits)
        kernel_grads, gamma_grads, beta_grads = [a.T @ grad], [], []
        bias_grad = grad.sum(0)
        for i in range(len(saved) - 1, -1, -1):
            a, xhat, y, inv_std = saved[i]
            g = grad @ self.kernels[i + 1].T
            g *= np.where(y > 0, g.dtype.type(1), g.dtype.type(NEGATIVE_SLOPE))
            gamma_grads.append((g * xhat).sum(0))
            beta_grads.append(g.sum(0))
            g -= beta_grads[-1] / len(g)
            g -= xhat * (gamma_grads[-1] / len(g))
            g *= self.gammas[i] * inv_std
            kernel_grads.append(a.T @ g)
            grad = g
        return loss, [*kernel_grads[::-1], *gamma_grads[::-1], *beta_grads[::-1], bias_grad]

    def _adam(self, grads: list[Array]) -> None:
        self.steps += 1
        c1, c2 = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for p, g, (m, v) in zip(self.params, grads, self.states, strict=True):
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            g *= g
            g *= 0.001
            v += g
            root = np.sqrt(v)
            root *= (1 / c2) ** 0.5
            root += 1e-8
            np.divide(m, root, out=root)
            root *= STEP_LEARNING_RATE / c1
            p -= root
