"""The network of `digits_mlp.py` in Equinox."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import fusednn.jax as fj
from fusednn.jax import optim

WIDTHS = (64, 128, 128, 128)
RATE, SLOPE, MOMENTUM, EPS = 1e-3, 0.01, 0.9, 1e-5


class Pair(eqx.Module):
    """BatchNorm with leaky ReLU over a whole batch, as formulas of JAX or as one call."""

    gamma: jax.Array
    beta: jax.Array
    fused: bool = eqx.field(static=True)

    def __init__(self, width: int, fused: bool) -> None:
        self.gamma, self.beta, self.fused = jnp.ones(width), jnp.zeros(width), fused

    def __call__(self, x: Any, running: tuple[Any, Any], training: bool) -> tuple[Any, Any]:
        """Return the output and the running statistics."""
        if self.fused:
            given, how = (x, self.gamma, self.beta, *running), {"negative_slope": SLOPE, "eps": EPS}
            if not training:
                return fj.batch_norm_inference(*given, **how), running
            y, *moved = fj.batch_norm(*given, momentum=1 - MOMENTUM, **how)
            return y, tuple(moved)
        mean, var = (x.mean(0), x.var(0)) if training else running
        z = (x - mean) * (self.gamma * jax.lax.rsqrt(var + EPS)) + self.beta
        mixed = zip(running, (mean, var), strict=True)
        moved = tuple(MOMENTUM * r + (1 - MOMENTUM) * b for r, b in mixed)
        return jax.nn.leaky_relu(z, SLOPE), moved


class Network(eqx.Module):
    """Hidden layers with BatchNorm and leaky ReLU, and a classifier."""

    layers: list[eqx.nn.Linear]
    pairs: list[Pair]

    def __init__(self, fused: bool, key: Any) -> None:
        sizes = [*pairwise(WIDTHS), (WIDTHS[-1], 10)]
        keys = jax.random.split(key, len(sizes))
        self.layers = [eqx.nn.Linear(a, b, key=k) for (a, b), k in zip(sizes, keys, strict=True)]
        self.pairs = [Pair(width, fused) for width in WIDTHS[1:]]

    def __call__(self, x: Any, running: list[Any], training: bool) -> tuple[Any, list[Any]]:
        """Return the logits and the running statistics of all layers."""
        moved = []
        for layer, pair, statistics in zip(self.layers[:-1], self.pairs, running, strict=True):
            x, kept = pair(jax.vmap(layer)(x), statistics, training)
            moved.append(kept)
        return jax.vmap(self.layers[-1])(x), moved


def build(fused: bool) -> tuple[Any, Any, Any]:
    """Return the state, the training step and the prediction."""
    params, rest = eqx.partition(Network(fused, jax.random.key(0)), eqx.is_inexact_array)
    running = [(jnp.zeros(width), jnp.ones(width)) for width in WIDTHS[1:]]
    adam = optim.adam(RATE) if fused else optax.adam(RATE)

    def loss_of(params: Any, running: Any, x: Any, labels: Any) -> tuple[Any, Any]:
        logits, running = eqx.combine(params, rest)(x, running, training=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), running

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Any, labels: Any) -> tuple[Any, Any]:
        params, running, kept = state
        gradients = jax.value_and_grad(loss_of, has_aux=True)
        (loss, running), grads = gradients(params, running, x, labels)
        if fused:
            params, kept = adam.apply(params, grads, kept)
        else:
            updates, kept = adam.update(grads, kept, params)
            params = optax.apply_updates(params, updates)
        return (params, running, kept), loss

    def predict(state: Any, x: Any) -> Any:
        return eqx.combine(state[0], rest)(x, state[1], training=False)[0]

    return (params, running, adam.init(params)), step, predict
