"""From a case's arrays to torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fusednn.benchmarks.inputs import Activations, Array


def tensor_of(array: Array) -> Any:
    """View an array as a tensor; bfloat16 by its bits."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array_of(tensor: Any) -> Array:
    """Return a tensor's values as a NumPy array, bfloat16 as float32."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return np.asarray(tensor.numpy())


def image_of(array: Array, data: Activations) -> Any:
    """View an activation with its channels on axis 1, as torch does: NHWC is channels_last."""
    tensor = tensor_of(array)
    last = data.layout.channel_axis == tensor.ndim - 1 and tensor.ndim > 2
    return tensor.movedim(-1, 1) if last else tensor


def activation_of(tensor: Any, data: Activations) -> Array:
    """Return the array of what `image_of` made a tensor of."""
    last = data.layout.channel_axis == tensor.ndim - 1 and tensor.ndim > 2
    return array_of(tensor.movedim(1, -1) if last else tensor)


def compiled(function: Any) -> Any:
    """Compile a function for shapes that do not change.

    What was compiled before is forgotten: after some cases of one function torch would give up
    and run it uncompiled.
    """
    torch.compiler.reset()
    return torch.compile(function, dynamic=False)
