"""PyTorch's leaky_relu: eager, compiled, ATen with ``out=``."""

from __future__ import annotations

from typing import Any

import torch

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Contender
from fusednn.benchmarks.peers.torch_arrays import array_of, compiled, tensor_of
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import NEGATIVE_SLOPE

aten = torch.ops.aten


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    data = inputs.activations(case)
    forward = case.variant == "forward"
    x, grad = tensor_of(data.x), tensor_of(data.grad)
    arguments = (x,) if forward else (grad, x)
    function: Any
    if forward:
        function = lambda x: aten.leaky_relu(x, NEGATIVE_SLOPE)  # noqa: E731
    else:
        function = lambda g, x: aten.leaky_relu_backward(g, x, NEGATIVE_SLOPE, False)  # noqa: E731
    if name == "torch-compile":
        function = compiled(function)
    if name == "torch-aten":
        out = torch.empty_like(x)
        if forward:
            function = lambda x: aten.leaky_relu.out(x, NEGATIVE_SLOPE, out=out)  # noqa: E731
        else:
            function = lambda g, x: aten.leaky_relu_backward.grad_input(  # noqa: E731
                g, x, NEGATIVE_SLOPE, False, grad_input=out
            )

    def run() -> Any:
        return function(*arguments)

    return Contender(
        run,
        lambda: sample_channels(data, {"y" if forward else "grad_x": array_of(run())}),
        reuses=name == "torch-aten",
    )
