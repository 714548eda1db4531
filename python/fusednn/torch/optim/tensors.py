"""Parameters, gradients and states of PyTorch as the kernels take them: plain, dense tensors."""

from __future__ import annotations

from typing import Any

import torch

#: What parameters and gradients may be: the kernels' storage types.
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def is_distributed(tensor: torch.Tensor) -> bool:
    """Return whether this is a DTensor, of FSDP2 or tensor parallelism."""
    return hasattr(tensor, "_local_tensor")


def memory_of(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a plain tensor of the same memory: of a DTensor, this process' shard.

    Raises
    ------
    TypeError
        For a subclass that holds no memory of its own.
    """
    if is_distributed(tensor):
        tensor = tensor._local_tensor
        if hasattr(tensor, "trigger_wait"):  # a collective's result that may be under way
            tensor = tensor.wait()
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return tensor.detach()
    disabled = torch._C._disabled_torch_dispatch_impl
    if getattr(type(tensor), "__torch_dispatch__", disabled) is not disabled:
        raise TypeError(
            f"`{name}` must be a tensor that has memory, or a DTensor. "
            f"Received: type={type(tensor).__name__}"
        )
    return tensor.detach().as_subclass(torch.Tensor)


def laid_out_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one shape have their elements in the same order of memory."""
    strides = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(a == b or size == 1 for size, a, b in strides)


def laid_out_as(model: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor`, or where its memory is in another order than that of `model`, a copy."""
    if tensor.shape != model.shape or laid_out_alike(tensor, model):
        return tensor
    copy = torch.empty_like(model, dtype=tensor.dtype)
    # A model with gaps has no tensor like it; the kernel refuses it by name.
    return copy.copy_(tensor) if laid_out_alike(copy, model) else tensor


def gradient_of(name: str, param: torch.Tensor) -> torch.Tensor:
    """Return the gradient of `param`, which has one, in memory as that of `param` lies.

    Raises
    ------
    RuntimeError
        For a sparse gradient.
    """
    grad = param.grad
    if grad.layout != torch.strided:
        raise RuntimeError(
            f"`{name}.grad` must be dense: sparse gradients are for torch.optim.SparseAdam, or SGD "
            f"and Adagrad of torch.optim. Received: layout={grad.layout}"
        )
    if is_distributed(param) and grad.placements != param.placements:
        grad = grad.redistribute(placements=param.placements)
    memory = memory_of(f"{name}.grad", grad).resolve_neg()
    return laid_out_as(memory_of(name, param), memory)


def names_of(index: int, group: dict[str, Any]) -> list[str]:
    """Return what messages call the parameters of the group at `index`."""
    indices = range(len(group["params"]))
    return group.get("param_names") or [f"param_groups[{index}]['params'][{i}]" for i in indices]


def number(value: float | torch.Tensor) -> float:
    """Return a hyper-parameter, which may be a tensor of one element, as a number."""
    return float(value.item()) if isinstance(value, torch.Tensor) else float(value)


def rate(value: float | torch.Tensor) -> float | torch.Tensor:
    """Return a learning rate as a number, or the tensor where reading it would wait for a GPU."""
    return value if isinstance(value, torch.Tensor) and value.is_cuda else number(value)
