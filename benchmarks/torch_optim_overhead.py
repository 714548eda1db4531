"""A step of `fusednn.torch.optim` beside `torch.optim` on many small tensors.

``python benchmarks/torch_optim_overhead.py`` prints a row for each optimizer on 60 tensors of 32
numbers: here, and PyTorch's fused form, or its own default where it has none (RMSprop). Each figure
is the least of many repetitions; forms take turns.
"""

from __future__ import annotations

import timeit
from typing import Any

import torch

from fusednn.torch import optim

ROUNDS, CALLS = 100, 10  # short turns: some lie between those of other programs
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "fused": True},
    "Adagrad": {"fused": True},
    "RMSprop": {},
    "Adam": {"fused": True},
    "AdamW": {"fused": True},
}


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, microseconds\n")
    print("| 60 tensors of 32 | fusednn | PyTorch | PyTorch / fusednn |\n|---|---|---|---|")
    for name, options in OPTIONS.items():
        steps = []
        for package in (optim, torch.optim):
            params = [torch.nn.Parameter(torch.randn(32)) for _ in range(60)]
            for p in params:
                p.grad = torch.randn(32)
            optimizer = getattr(package, name)(params, lr=1e-4, **options)
            optimizer.step()
            steps.append(optimizer.step)
        best = [float("inf")] * 2
        for _ in range(ROUNDS):
            for i, step in enumerate(steps):
                best[i] = min(best[i], 1e6 * timeit.timeit(step, number=CALLS) / CALLS)
        print(f"| {name} | {best[0]:.1f} | {best[1]:.1f} | {best[1] / best[0]:.1f} |")


if __name__ == "__main__":
    main()
