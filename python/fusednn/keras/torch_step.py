"""A step of an optimizer on Keras' PyTorch backend: what Keras does besides the kernel's update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from keras.src.backend.common.stateless_scope import in_stateless_scope

from fusednn.keras.torch_lists import StepLists
from fusednn.torch.optim.tensors import DTYPES

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def can_step(grads: Sequence[Any], variables: Sequence[Any]) -> bool:
    """Return whether these are variables and gradients with memory that the kernels can read."""
    if in_stateless_scope():
        return False
    for grad, variable in zip(grads, variables, strict=True):
        # The attribute: its property asks for scopes that are not there now.
        param = variable._value
        if type(param) is not torch.nn.Parameter or param.dtype not in DTYPES:
            return False
        if type(grad) not in _PLAIN or grad.dtype not in DTYPES or grad.layout != torch.strided:
            return False
    return True


def divides(optimizer: Any) -> bool:
    """Return whether the step divides gradients by the loss' scale; else Keras does, before.

    Sums of gradients are saved, and so are divided as Keras divides them.
    """
    return not optimizer.gradient_accumulation_steps


# torch.compile has nothing to gain here, and warns of calls of C.
@torch._disable_dynamo  # type: ignore[untyped-decorator]
def step(optimizer: Any, grads: Sequence[torch.Tensor], variables: Sequence[Any]) -> None:
    """Do what Keras' `_backend_apply_gradients` does: all of a step but its count."""
    lists = optimizer._latest
    if lists is None or not lists.are_of(variables):
        lists = optimizer._latest = StepLists(optimizer, variables)
    with torch.no_grad():
        calls = int(optimizer._iterations.value)
        if optimizer.gradient_accumulation_steps:
            number = _accumulate(optimizer, lists, grads, calls)
        else:
            number = calls + 1
            lists.update(optimizer, grads, optimizer._undivided, number)
        frequency = optimizer.ema_overwrite_frequency if optimizer.use_ema else None
        if frequency and number % frequency == 0:
            optimizer._overwrite_model_variables_with_average_value(optimizer._trainable_variables)


def _accumulate(optimizer: Any, lists: StepLists, grads: Sequence[torch.Tensor], calls: int) -> int:
    """Add the gradients to the sums, and step where it is time; return the step's number."""
    every: int = optimizer.gradient_accumulation_steps
    number = calls // every + 1
    torch._foreach_add_(lists.accumulators, list(grads))
    if (calls + 1) % every == 0:
        lists.update(optimizer, lists.accumulators, float(every), number)
        torch._foreach_zero_(lists.accumulators)
    elif optimizer.use_ema:
        optimizer._update_model_variables_moving_average(optimizer._trainable_variables)
    return number
