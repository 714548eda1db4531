"""A small convolutional network of PyTorch on handwritten digits, as it is and converted.

Both start from the same weights and see the same batches, turn by turn: the losses agree but for
rounding, the accuracy is the same, and a step of the converted one takes less time and fewer of
PyTorch's operators. Needs PyTorch and scikit-learn, which brings the digits::

    python examples/torch/digits_cnn.py
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import torch
from torch import nn

import fusednn
import fusednn.torch
from fusednn import datasets


def network() -> nn.Module:
    """Two convolutions with BatchNorm and leaky ReLU each, and a classifier."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.01),
        nn.Conv2d(32, 32, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.01),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def digits() -> tuple[torch.Tensor, ...]:
    """Images (N, 1, 8, 8) and labels, of the training set and the test set."""
    (x_train, y_train), (x_test, y_test) = datasets.digits.load_data()
    images = (torch.from_numpy(x).float().reshape(-1, 1, 8, 8) for x in (x_train, x_test))
    labels = (torch.from_numpy(y).long() for y in (y_train, y_test))
    return *images, *labels


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of right answers."""
    model.eval()
    with torch.no_grad():
        right = (model(x).argmax(1) == y).float().mean().item()
    model.train()
    return right


def operators(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, int]:
    """How often each of PyTorch's operators is called in a forward and a backward pass."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        nn.functional.cross_entropy(model(x), y).backward()
    return {e.key: e.count for e in profile.key_averages() if e.key.startswith("aten::")}


def main(epochs: int = 8, batch_size: int = 64, threads: int = 1) -> dict[str, dict[str, Any]]:
    """Train both; return each one's losses per epoch, accuracy, seconds and operators of a step."""
    torch.set_num_threads(threads)
    fusednn.set_num_threads(threads)
    torch.manual_seed(0)
    x_train, x_test, y_train, y_test = digits()
    plain = network()
    models = {"plain": plain, "converted": fusednn.torch.convert(copy.deepcopy(plain))}
    optimizers = {
        name: torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for name, model in models.items()
    }
    losses: dict[str, list[float]] = {name: [] for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(epochs):
        totals = dict.fromkeys(models, 0.0)
        order = torch.randperm(len(x_train)).split(batch_size)
        for batch in order:
            x, y = x_train[batch], y_train[batch]
            for name, model in models.items():
                start = time.perf_counter()
                optimizers[name].zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizers[name].step()
                seconds[name].append(time.perf_counter() - start)
                totals[name] += loss.item() / len(order)
        for name in models:
            losses[name].append(totals[name])
    results: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        right, step = accuracy(model, x_test, y_test), statistics.median(seconds[name])
        called = operators(model, x_train[:batch_size], y_train[:batch_size])
        results[name] = {
            **{"losses": losses[name], "accuracy": right},
            **{"step": step, "operators": called},
        }
        curve = " ".join(f"{loss:.4f}" for loss in losses[name])
        print(
            f"{name:9}: test accuracy {right:.3f}, {1e3 * step:.2f} ms and "
            f"{sum(called.values())} operators a step, losses {curve}"
        )
    return results


if __name__ == "__main__":
    main()
