"""What a call costs in JAX: BatchNorm, leaky ReLU and optimizer steps beside pure XLA.

``python benchmarks/jax_overhead.py [layers] [activation] [steps]`` prints a table of each: the
kernels beside the same arithmetic in JAX's functions, both under `jax.jit`, from tiny to large
arrays, and fused steps beside optax's, all arrays donated, each called alone and in a loop that is
one program. Answers are compared first; forms take turns; each figure is the least of many short
turns. Both use all CPUs: XLA its own threads, the kernels theirs.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fusednn.jax as fj
from fusednn.jax import optim

SLOPE, SECONDS = 0.01, 0.002  # of a turn
ROUNDS = {"small": 100, "large": 60}
LOOP = 200  # steps of one program
SHAPES = ((64, 32), (32, 100), (256, 1024), (32, 28, 28, 64), (8192, 512))
#: Lists of shapes, by title; those of a million numbers are large.
LISTS: dict[str, list[tuple[int, ...]]] = {
    "60 x 32": [(32,)] * 60,
    "784-300-100-10": [(784, 300), (300,), (300, 100), (100,), (100, 10), (10,)],
    "one of 4 million": [(4_000_000,)],
}
Forms = dict[str, Callable[[], Any]]


def least(forms: Forms, size: str) -> dict[str, float]:
    """Microseconds per call of each, in turns."""
    for form in forms.values():
        jax.block_until_ready(form())
    once = min(timeit.repeat(forms["XLA"], number=1, repeat=5))
    calls = max(1, int(SECONDS / once))
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(ROUNDS[size]):
        for name, form in forms.items():

            def run(form: Callable[[], Any] = form) -> None:
                jax.block_until_ready(form())

            best[name] = min(best[name], 1e6 * timeit.timeit(run, number=calls) / calls)
    return best


def report(name: str, forms: Forms, size: str, units: int = 1) -> None:
    """Print a row; a call makes `units` of what the row is about."""
    times = {form: time / units for form, time in least(forms, size).items()}
    ratio = times["fusednn"] / times["XLA"]
    print(f"| {name} | {times['fusednn']:.1f} | {times['XLA']:.1f} | {ratio:.2f} |", flush=True)


def pure(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> tuple[Any, Any, Any]:
    """What `fusednn.jax.batch_norm` computes, in JAX's functions."""
    axes = tuple(range(x.ndim - 1))
    batch_mean = x.mean(axes)
    batch_var = jnp.square(x - batch_mean).mean(axes)
    z = (x - batch_mean) * (gamma / jnp.sqrt(batch_var + 1e-5)) + beta
    y = jnp.where(z > 0, z, SLOPE * z)
    return y, 0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * batch_var


def fused(*arrays: Any) -> tuple[Any, Any, Any]:
    return fj.batch_norm(*arrays, negative_slope=SLOPE)


def fused_inference(*arrays: Any) -> Any:
    return fj.batch_norm_inference(*arrays, negative_slope=SLOPE)


def pure_inference(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
    z = (x - mean) * (gamma / jnp.sqrt(var + 1e-5)) + beta
    return jnp.where(z > 0, z, SLOPE * z)


def gradients(function: Any) -> Any:
    """The gradients for a given one of `y`, the last argument, and the running statistics."""

    def both(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, grad: Any) -> Any:
        def own(x: Any, gamma: Any, beta: Any) -> Any:
            y, *moved = function(x, gamma, beta, mean, var)
            return y, moved

        _, pull, moved = jax.vjp(own, x, gamma, beta, has_aux=True)
        return pull(grad), moved

    return both


def compare(name: str, functions: Sequence[Any], arrays: tuple[Any, ...]) -> None:
    """Print the row of a function and of its peer of XLA, whose results are the same."""
    own, peer = map(jax.jit, functions)
    for a, b in zip(*map(jax.tree.leaves, (own(*arrays), peer(*arrays))), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * (float(jnp.abs(b).max()) + 1))
    size = "small" if arrays[0].size < 1e6 else "large"
    report(name, {"fusednn": lambda: own(*arrays), "XLA": lambda: peer(*arrays)}, size)


def layers() -> None:
    rng = np.random.default_rng(0)
    print("\n| BatchNorm with leaky ReLU | fusednn, us | XLA, us | ratio |\n|---|---|---|---|")
    for shape in SHAPES:
        x, grad = (jnp.asarray(rng.normal(0.5, 2, shape), jnp.float32) for _ in range(2))
        gamma, beta, mean = (jnp.asarray(rng.normal(1, 1, shape[-1]), jnp.float32) for _ in "abc")
        given = (x, gamma, beta, mean, jnp.ones(shape[-1]))

        forms = {
            "forward": (fused, pure),
            "forward and backward": (gradients(fused), gradients(pure)),
            "inference": (fused_inference, pure_inference),
        }
        for kind, functions in forms.items():
            compare(f"{shape}, {kind}", functions, (*given, grad) if "backward" in kind else given)


def activation() -> None:
    rng = np.random.default_rng(0)
    print("\n| leaky ReLU alone | fusednn, us | XLA, us | ratio |\n|---|---|---|---|")
    for shape in SHAPES:
        x, grad = (jnp.asarray(rng.normal(0, 2, shape), jnp.float32) for _ in range(2))
        own, peer = ((lambda x, f=f: f(x, SLOPE)) for f in (fj.leaky_relu, jax.nn.leaky_relu))
        compare(f"{shape}, forward", (own, peer), (x,))
        pulled = [lambda x, grad, f=f: jax.vjp(f, x)[1](grad) for f in (own, peer)]
        compare(f"{shape}, backward", pulled, (x, grad))


def donated(transform: Any, step: Any, shapes: Any, count: int) -> tuple[Callable[[], Any], Any]:
    """Return a call of `count` steps in one program, and the parameters after the first call."""
    params = [jnp.full(s, 0.5) for s in shapes]
    grads = [jnp.full(s, 0.25) for s in shapes]

    def loop(params: Any, grads: Any, state: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, h: step(h[0], grads, h[1]), (params, state))

    jitted = jax.jit(step if count == 1 else loop, donate_argnums=(0, 2))
    held = [jitted(params, grads, transform.init(params))]
    after = jax.tree.map(np.array, held[0][0])

    def run() -> Any:
        held[0] = jitted(held[0][0], grads, held[0][1])
        return held[0]

    return run, after


def steps() -> None:
    makers = {
        "sgd, Nesterov": (optim.sgd(0.1, 0.9, True), optax.sgd(0.1, 0.9, True)),
        "adam": (optim.adam(1e-3), optax.adam(1e-3)),
        "adamw, max_norm": (
            optim.adamw(1e-3, max_norm=1.0),
            optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
        ),
    }
    print("\n| optimizer step | fusednn, us | XLA, us | ratio |\n|---|---|---|---|")
    for list_name, shapes in LISTS.items():
        for name, (own, peer) in makers.items():

            def apply(params: Any, grads: Any, state: Any, peer: Any = peer) -> Any:
                updates, state = peer.update(grads, state, params)
                return optax.apply_updates(params, updates), state

            for steps_of_call in (1, LOOP) if "million" not in list_name else (1,):
                forms: Forms = {}
                results = []
                for form, transform, step in (("fusednn", own, own.apply), ("XLA", peer, apply)):
                    forms[form], after = donated(transform, step, shapes, steps_of_call)
                    results.append(after)
                for a, b in zip(*results, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-5 * steps_of_call)
                row = f"{name}, {list_name}" + (", in a loop" if steps_of_call > 1 else "")
                report(row, forms, "large" if "million" in list_name else "small", steps_of_call)


def main(chosen: list[str]) -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}")
    for table in (layers, activation, steps):
        if not chosen or table.__name__ in chosen:
            table()


if __name__ == "__main__":
    main(sys.argv[1:])
