"""The network of `digits_mlp.py` in Flax NNX."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import optax
from flax import nnx

import fusednn.jax as fj
from fusednn.jax import optim

WIDTHS = (64, 128, 128, 128)
RATE, SLOPE, MOMENTUM = 1e-3, 0.01, 0.9


class BatchNormLeakyReLU(nnx.BatchNorm):
    """Flax' BatchNorm, its parameters and statistics, with leaky ReLU in the same call."""

    def __call__(self, x: Any) -> Any:
        """Normalise and activate; in training, move the statistics."""
        how = {"eps": self.epsilon, "negative_slope": SLOPE}
        arrays = (self.scale[...], self.bias[...], self.mean[...], self.var[...])
        if self.use_running_average:
            return fj.batch_norm_inference(x, *arrays, **how)
        # Flax' momentum is what is kept, that of the kernel what is added.
        y, mean, var = fj.batch_norm(x, *arrays, momentum=1 - self.momentum, **how)
        self.mean[...], self.var[...] = mean, var
        return y


class PlainPair(nnx.Module):
    """The same as Flax has it: BatchNorm, then leaky ReLU."""

    def __init__(self, width: int, momentum: float, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(width, momentum=momentum, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Normalise and activate."""
        return jax.nn.leaky_relu(self.norm(x), SLOPE)


class Network(nnx.Module):
    """Hidden layers with BatchNorm and leaky ReLU, and a classifier."""

    def __init__(self, pair: Any, rngs: nnx.Rngs) -> None:
        sizes = pairwise(WIDTHS)
        self.layers = nnx.List([nnx.Linear(a, b, use_bias=False, rngs=rngs) for a, b in sizes])
        self.pairs = nnx.List([pair(width, momentum=MOMENTUM, rngs=rngs) for width in WIDTHS[1:]])
        self.last = nnx.Linear(WIDTHS[-1], 10, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Return the logits."""
        for layer, pair in zip(self.layers, self.pairs, strict=True):
            x = pair(layer(x))
        return self.last(x)


def build(fused: bool) -> tuple[Any, Any, Any]:
    """Return the state, the training step and the prediction."""
    model = Network(BatchNormLeakyReLU if fused else PlainPair, nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    adam = optim.adam(RATE) if fused else optax.adam(RATE)

    def loss_of(params: Any, rest: Any, x: Any, labels: Any) -> tuple[Any, Any]:
        network = nnx.merge(graph, params, rest, copy=True)
        logits = network(x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), nnx.split(network, nnx.Param, ...)[2]

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Any, labels: Any) -> tuple[Any, Any]:
        params, rest, kept = state
        (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(params, rest, x, labels)
        if fused:
            params, kept = adam.apply(params, grads, kept)
        else:
            updates, kept = adam.update(grads, kept, params)
            params = optax.apply_updates(params, updates)
        return (params, rest, kept), loss

    def predict(state: Any, x: Any) -> Any:
        network = nnx.merge(graph, *state[:2], copy=True)
        network.eval()
        return network(x)

    return (params, rest, adam.init(params)), step, predict
