"""BatchNorm + leaky ReLU in JAX, jitted; the variance as E[x^2] - E[x]^2, as Flax computes it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.peers.jax_arrays import Latest, device_array, use_dtype
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import EPS, MOMENTUM, NEGATIVE_SLOPE, Layout


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    if case.variant == "in_place":
        raise UnavailableError("in place is fusednn's own form")
    use_dtype(case)
    data = inputs.activations(case)
    formulas = Formulas(data.layout)
    x, grad = device_array(data.x), device_array(data.grad)
    vectors = (data.gamma, data.beta, data.running_mean, data.running_var)
    gamma, beta, running_mean, running_var = (device_array(vector) for vector in vectors)
    functions: dict[str, tuple[Any, tuple[Any, ...], tuple[str, ...]]] = {
        "forward": (formulas.forward, (x, gamma, beta, running_mean, running_var), ("y",)),
        "inference": (formulas.inference, (x, gamma, beta, running_mean, running_var), ("y",)),
        "both": (
            formulas.both,
            (x, gamma, beta, running_mean, running_var, grad),
            ("y", "grad_x", "grad_gamma", "grad_beta"),
        ),
        "backward": (
            formulas.backward,
            (grad, x, gamma, beta, *jax.jit(formulas.statistics)(x)),
            ("grad_x", "grad_gamma", "grad_beta"),
        ),
    }
    function, arguments, names = functions[case.variant]
    jitted = jax.jit(function)
    latest = Latest()

    def run() -> None:
        latest.result = jitted(*arguments)

    def answer() -> Answer:
        run()
        results = dict(zip(names, latest.result, strict=False))
        return sample_channels(data, {n: np.asarray(r) for n, r in results.items()})

    return Contender(run, answer, reuses=False, finish=latest.wait)


class Formulas:
    """The functions that are jitted."""

    def __init__(self, layout: Layout) -> None:
        self.axes = layout.other_axes
        self.shape = layout.per_channel()

    def statistics(self, x: Any) -> tuple[Any, Any]:
        """Mean, and the inverse of the standard deviation."""
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = wide.mean(self.axes)
        var = jnp.maximum(jnp.square(wide).mean(self.axes) - jnp.square(mean), 0)
        return mean, jax.lax.rsqrt(var + EPS)

    def _normalised(self, x: Any, gamma: Any, beta: Any, mean: Any, inv_std: Any) -> Any:
        spread = [v.reshape(self.shape) for v in (mean, gamma * inv_std, beta)]
        z = (x - spread[0]) * spread[1] + spread[2]
        return jnp.where(z > 0, z, NEGATIVE_SLOPE * z).astype(x.dtype)

    def forward(
        self, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any
    ) -> tuple[Any, ...]:
        """Return y and the new running statistics."""
        mean, inv_std = self.statistics(x)
        var = 1 / jnp.square(inv_std) - EPS
        return (
            self._normalised(x, gamma, beta, mean, inv_std),
            (1 - MOMENTUM) * running_mean + MOMENTUM * mean,
            (1 - MOMENTUM) * running_var + MOMENTUM * var,
        )

    def inference(
        self, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any
    ) -> tuple[Any]:
        """Compute y with the statistics of the population."""
        inv_std = jax.lax.rsqrt(running_var + EPS)
        return (self._normalised(x, gamma, beta, running_mean, inv_std),)

    def backward(
        self, grad: Any, x: Any, gamma: Any, beta: Any, mean: Any, inv_std: Any
    ) -> tuple[Any, ...]:
        """Return the gradients, from statistics that are known."""
        mean, inv_std = mean.reshape(self.shape), inv_std.reshape(self.shape)
        xhat = (x - mean) * inv_std
        z = xhat * gamma.reshape(self.shape) + beta.reshape(self.shape)
        g = jnp.where(z > 0, grad, NEGATIVE_SLOPE * grad).astype(xhat.dtype)
        sum_grad = g.sum(self.axes)
        sum_grad_xhat = (g * xhat).sum(self.axes)
        count = x.size // sum_grad.size
        spread = [(v / count).reshape(self.shape) for v in (sum_grad, sum_grad_xhat)]
        scale = gamma.reshape(self.shape) * inv_std
        grad_x = scale * (g - spread[0] - xhat * spread[1])
        return grad_x.astype(x.dtype), sum_grad_xhat, sum_grad

    def both(
        self, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, grad: Any
    ) -> tuple[Any, ...]:
        """Forward, then backward."""
        y, *running = self.forward(x, gamma, beta, running_mean, running_var)
        gradients = self.backward(grad, x, gamma, beta, *self.statistics(x))
        return (y, *gradients, *running)
