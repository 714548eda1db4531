"""A training step in PyTorch: eager with the default or the fused Adam, and compiled."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.peers.torch_arrays import compiled, tensor_of
from fusednn.benchmarks.samples import TRAINING_STEPS
from fusednn.benchmarks.shapes import EPS, MODELS, MOMENTUM, NEGATIVE_SLOPE, STEP_LEARNING_RATE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    data = inputs.training(case)
    layers: list[nn.Module] = []
    products = MODELS[case.subject].products
    for i, ((features, units), kernel) in enumerate(zip(products, data.kernels, strict=True)):
        last = i == len(products) - 1
        # A bias before BatchNorm changes nothing: left out, as those who tune do.
        dense = nn.Linear(features, units, bias=last)
        with torch.no_grad():
            dense.weight.copy_(tensor_of(kernel).T)
            if last:
                dense.bias.zero_()
        layers.append(dense)
        if not last:
            layers += [
                nn.BatchNorm1d(units, eps=EPS, momentum=MOMENTUM),
                nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
            ]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(
        model.parameters(), STEP_LEARNING_RATE, fused=None if name == "torch" else True
    )
    x, labels = tensor_of(data.x), torch.from_numpy(data.labels)
    forward = compiled(model) if name == "torch-compile" else model

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(forward(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    def answer() -> Answer:
        return {"losses": np.array([step().item() for _ in range(TRAINING_STEPS)])}

    note = "the model compiled, the fused Adam" if name == "torch-compile" else ""
    return Contender(step, answer, reuses=False, note=note)
