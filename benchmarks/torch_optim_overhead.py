"""A step of `fusednn.torch.optim` beside `torch.optim` on many small tensors.

``python benchmarks/torch_optim_overhead.py`` runs the usual loop, ``zero_grad()``,
``loss.backward()``, ``step()``, where each step meets new gradients, and that with
``zero_grad(set_to_none=False)``, which keeps them. It prints a row for each optimizer: the step
here, and that of PyTorch's fused form, or of its own default where it has none (RMSprop). Each
figure is the median of many steps, every one behind a backward pass of its own; packages take
turns. Last come steps alone, on gradients that lie ready: the least of many.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import fusednn
from fusednn.torch import optim

STEPS, FIRST = 200, 20  # the first make states, and are not counted
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "fused": True},
    "Adagrad": {"fused": True},
    "RMSprop": {},
    "Adam": {"fused": True},
    "AdamW": {"fused": True},
}
#: The second is what 20 layers of `Linear(100, 100)` and `BatchNorm1d` have.
SMALL = "60 tensors of 32"
SHAPES = {
    SMALL: [(32,)] * 60,
    "80 tensors of 20 layers": [(100, 100), (100,), (100,), (100,)] * 20,
}


def step_times(name: str, shapes: list[tuple[int, ...]], *, kept: bool) -> list[float]:
    """Return the medians of a step here and of PyTorch's, in microseconds."""
    packages = (optim, torch.optim)
    params = [[torch.nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in packages]
    optimizers = [
        getattr(package, name)(of, lr=1e-4, **OPTIONS[name])
        for package, of in zip(packages, params, strict=True)
    ]
    times: list[list[float]] = [[], []]
    for _ in range(STEPS):
        for of, optimizer, record in zip(params, optimizers, times, strict=True):
            optimizer.zero_grad(set_to_none=not kept)
            loss = torch.stack([(p * p).sum() for p in of]).sum()
            loss.backward()
            start = time.perf_counter()
            optimizer.step()
            record.append(1e6 * (time.perf_counter() - start))
    return [statistics.median(record[FIRST:]) for record in times]


def alone_times(name: str, shapes: list[tuple[int, ...]], *, kept: bool) -> list[float]:
    """Return the least times of a step here and of PyTorch's where nothing else is done."""
    best = []
    for package in (optim, torch.optim):
        params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        optimizer = getattr(package, name)(params, lr=1e-4, **OPTIONS[name])
        ready = [[torch.randn(shape) for shape in shapes] for _ in range(2)]
        times = []
        for i in range(2 * STEPS):
            if not kept or i == 0:
                for param, grad in zip(params, ready[i % 2], strict=True):
                    param.grad = grad
            start = time.perf_counter()
            optimizer.step()
            times.append(1e6 * (time.perf_counter() - start))
        best.append(min(times[FIRST:]))
    return best


def print_table(title: str, measure: Callable[..., list[float]], of: str, *, kept: bool) -> None:
    print(f"\n| {title}, gradients {'kept' if kept else 'new'} ", end="")
    print("| fusednn | PyTorch | PyTorch / fusednn |\n|---|---|---|---|")
    for name in OPTIONS:
        ours, theirs = measure(name, SHAPES[of], kept=kept)
        print(f"| {name} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} |")


def main() -> None:
    torch.set_num_threads(1)
    fusednn.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, microseconds")
    for of in SHAPES:
        for kept in (False, True):
            print_table(of, step_times, of, kept=kept)
    for kept in (False, True):
        print_table(f"steps alone, {SMALL}", alone_times, SMALL, kept=kept)


if __name__ == "__main__":
    main()
