"""What a call costs beside the computation: arrays into the kernels, and small layers in PyTorch.

``python benchmarks/torch_overhead.py`` prints two tables: the time to read one array of each kind,
and BatchNorm with leaky ReLU at (64, 32) beside PyTorch's two functions and two modules. Each
figure is the least of many repetitions; forms take turns.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import fusednn
import fusednn.torch
from fusednn import _core

ROUNDS, CALLS = 250, 40  # short turns: some lie between those of other programs


def least(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Microseconds per call of each, in turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(ROUNDS):
        for name, function in functions.items():
            seconds = timeit.timeit(function, number=CALLS) / CALLS
            best[name] = min(best[name], 1e6 * seconds)
    return best


def arrays() -> None:
    out = np.empty((0, 32), np.float32)
    kinds: dict[str, Any] = {"NumPy": out.copy(), "PyTorch, exchange API": torch.empty(0, 32)}
    functions = {n: lambda x=x: _core.leaky_relu(x, 0.1, out) for n, x in kinds.items()}

    def capsule() -> None:
        _core.use_exchange_api(False)
        _core.leaky_relu(kinds["PyTorch, exchange API"], 0.1, out)
        _core.use_exchange_api(True)

    functions["PyTorch, __dlpack__"] = capsule
    try:
        import jax.numpy as jnp

        x = jnp.zeros((0, 32), jnp.float32)
        functions["JAX, __dlpack__"] = lambda: _core.leaky_relu(x, 0.1, out)
    except ImportError:
        pass
    times = least(functions)
    print("| an array of | one call of leaky_relu on no elements, microseconds |\n|---|---|")
    for name, time in times.items():
        print(f"| {name} | {time:.2f} |")


def layers() -> None:
    x, grad = torch.randn(64, 32, requires_grad=True), torch.randn(64, 32)
    weight, bias = nn.Parameter(torch.ones(32)), nn.Parameter(torch.zeros(32))
    mean, var = torch.zeros(32), torch.ones(32)
    own = fusednn.torch.BatchNormLeakyReLU1d(32)
    theirs = nn.Sequential(nn.BatchNorm1d(32), nn.LeakyReLU())
    fused, functional = fusednn.torch.functional.batch_norm_leaky_relu, nn.functional

    def pair(training: bool = True) -> torch.Tensor:
        y = functional.batch_norm(x, mean, var, weight, bias, training)
        return functional.leaky_relu(y)

    forward = {
        "function": (lambda: fused(x, mean, var, weight, bias, True), pair),
        "module": (lambda: own(x), lambda: theirs(x)),
    }
    print("\n| at (64, 32) | fusednn | PyTorch | ratio |\n|---|---|---|---|")

    def row(name: str, ours: Callable[[], Any], peers: Callable[[], Any]) -> None:
        times = least({"ours": ours, "peers": peers})
        ratio = times["ours"] / times["peers"]
        print(f"| {name} | {times['ours']:.1f} | {times['peers']:.1f} | {ratio:.2f} |")

    for name, (ours, peers) in forward.items():
        torch.testing.assert_close(ours(), peers())
        row(f"{name}, forward", ours, peers)
        row(
            f"{name}, forward and backward",
            lambda f=ours: f().backward(grad),
            lambda f=peers: f().backward(grad),
        )
    with torch.no_grad():
        row("function, no_grad", *forward["function"])
        row("function, inference", lambda: fused(x, mean, var, weight, bias), lambda: pair(False))
    own.eval(), theirs.eval()
    with torch.no_grad():
        row("module, inference", *forward["module"])


def main() -> None:
    torch.set_num_threads(1)
    fusednn.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread\n")
    arrays()
    layers()


if __name__ == "__main__":
    main()
