"""BatchNorm with leaky ReLU in `torch.func`'s transforms (`grad`, `vjp`, `vmap`).

There a function must be told apart from what it saves, and calls operators, which `vmap` maps over
batches one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from fusednn.torch import library
from fusednn.torch.library import needed


class TrainingInTransforms(Function):
    """With the batch's statistics, which are results: y, mean, inv_std, var."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> library.Tensors:
        """Call the operator."""
        results: library.Tensors = torch.ops.fusednn.batch_norm_forward(*arguments)
        return results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: library.Tensors) -> None:
        """Save what the backward pass needs."""
        x, gamma, beta, _, ctx.negative_slope = inputs
        _, mean, inv_std, var = output
        ctx.mark_non_differentiable(mean, inv_std, var)
        ctx.save_for_backward(x, gamma, beta, mean, inv_std)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *unused: Any) -> tuple[Any, ...]:
        """Return the gradients of the arguments."""
        gradients = BackwardInTransforms.apply(grad, *ctx.saved_tensors, ctx.negative_slope)
        return *needed(ctx, 0, gradients), None, None


class BackwardInTransforms(Function):
    """The backward pass of training, which refuses to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> library.Tensors:
        """Call the operator."""
        results: library.Tensors = torch.ops.fusednn.batch_norm_backward(*arguments)
        return results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: library.Tensors) -> None:
        """Save nothing."""

    backward = staticmethod(library.refuse_second_derivative)


class InferenceInTransforms(Function):
    """With given statistics."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> torch.Tensor:
        """Call the operator."""
        return torch.ops.fusednn.batch_norm_inference(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Save what the backward pass needs."""
        *tensors, ctx.eps, ctx.negative_slope = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        """Return the gradients of the arguments."""
        gradients = InferenceBackwardInTransforms.apply(
            grad, *ctx.saved_tensors, ctx.eps, ctx.negative_slope
        )
        return *needed(ctx, 0, gradients), None, None, None, None


class InferenceBackwardInTransforms(BackwardInTransforms):
    """The backward pass of inference, which refuses to be differentiated."""

    @staticmethod
    def forward(*arguments: Any) -> library.Tensors:
        """Call the operator."""
        results: library.Tensors = torch.ops.fusednn.batch_norm_inference_backward(*arguments)
        return results
