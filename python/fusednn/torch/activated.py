"""BatchNorms that compute the activation behind them, where that cannot be taken out of the model.

The activation may be a function in a `forward`, or a module that several BatchNorms share. The
module here computes both, and marks its result by its type, `Activated`: the activation, whichever
way it is called, finds the mark, takes it away, and has nothing to do. Everything else that reads a
marked tensor is an error, as its values are not those of the BatchNorm. Where a program is traced
rather than run nothing is marked: the module is a BatchNorm alone there, the activation computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from fusednn.torch.autograd import is_plain
from fusednn.torch.modules import (
    BatchNormLeakyReLU,
    BatchNormLeakyReLU1d,
    BatchNormLeakyReLU2d,
    BatchNormLeakyReLU3d,
    call_as_leaf,
)
from fusednn.torch.sync import SyncBatchNormLeakyReLU

#: What is called as the activation, and the slope where none is given.
_SLOPES: dict[Any, float] = {
    functional.relu: 0.0,
    torch.relu: 0.0,
    torch.relu_: 0.0,
    torch.Tensor.relu: 0.0,
    torch.Tensor.relu_: 0.0,
    functional.leaky_relu: 0.01,
    torch._C._nn.leaky_relu_: 0.01,  # torch.nn.functional.leaky_relu_
}
#: What tells nothing of values.
_KNOWN_BEFORE = {
    getattr(torch.Tensor, name).__get__
    for name in ("shape", "dtype", "device", "layout", "requires_grad", "is_cuda", "ndim", "is_cpu")
} | {getattr(torch.Tensor, name) for name in ("size", "dim", "numel", "stride", "is_contiguous")}


def slope_of_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the slope of a call of a (leaky) ReLU as a function; None for other functions."""
    slope = _SLOPES.get(function)
    if slope:  # a leaky ReLU
        return kwargs.get("negative_slope", args[1] if len(args) > 1 else slope)
    return slope


class Activated(torch.Tensor):
    """What an activation finds applied already; its slope is in the attribute `_fusednn_slope`."""

    _fusednn_slope: float

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Take the mark away where the activation is called; refuse all that reads values."""
        kwargs = kwargs or {}
        if func in _KNOWN_BEFORE:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        x = args[0] if args else kwargs.get("input")
        if type(x) is cls and slope_of_call(func, args, kwargs) == x.__dict__["_fusednn_slope"]:
            x.__class__ = torch.Tensor
            del x.__dict__["_fusednn_slope"]
            return x
        raise RuntimeError(
            "the result of a BatchNorm that `fusednn.torch.convert` made one with the activation "
            "behind it must go to that activation, whose slope it was converted with: `revert` the "
            f"model first. Received: a call of {getattr(func, '__name__', func)}"
        )


class Marking(BatchNormLeakyReLU):
    """What the modules below have in common: they mark what they have activated."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise, scale, shift, and activate `input` in the place of what follows."""
        if type(input) is fx.Proxy and input.tracer.root is not self:
            return call_as_leaf(self, input)
        if not is_plain(input):
            return self._normalise(input, None)
        y = self._normalise(input, self.negative_slope)
        y.__dict__["_fusednn_slope"] = self.negative_slope
        y.__class__ = Activated
        return y

    def extra_repr(self) -> str:
        """Return the arguments, and that the activation stays in the model."""
        return f"{super().extra_repr()}, in the place of the activation after it"


class MarkingBatchNorm1d(Marking, BatchNormLeakyReLU1d):
    """Of inputs (N, C) or (N, C, L)."""


class MarkingBatchNorm2d(Marking, BatchNormLeakyReLU2d):
    """Of inputs (N, C, H, W)."""


class MarkingBatchNorm3d(Marking, BatchNormLeakyReLU3d):
    """Of inputs (N, C, D, H, W)."""


class MarkingSyncBatchNorm(Marking, SyncBatchNormLeakyReLU):
    """Of the statistics of several processes."""


#: What takes the place of a BatchNorm whose activation stays where it is.
MARKING: dict[type[nn.Module], type[Marking]] = {
    nn.BatchNorm1d: MarkingBatchNorm1d,
    nn.BatchNorm2d: MarkingBatchNorm2d,
    nn.BatchNorm3d: MarkingBatchNorm3d,
    nn.SyncBatchNorm: MarkingSyncBatchNorm,
}
