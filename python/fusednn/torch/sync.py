"""BatchNorm with leaky ReLU whose statistics are those of all processes of a group.

Each process reduces its part, all gather the parts and merge them in float64 by the formula of
Chan, Golub and LeVeque (1979), in the order of ranks: every process has the same bits, and parts
may differ in size or be empty. Backward, the two sums of each channel are added over the processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.autograd import Function

from fusednn import _core, ops
from fusednn.torch.autograd import Gradients, leave_backward_out_of_graphs
from fusednn.torch.functional import say_in_torchs_names
from fusednn.torch.library import channel_like, refuse_second_derivative, update_running_stats
from fusednn.torch.modules import BatchNormLeakyReLU


def _statistics_of_group(x: torch.Tensor, group: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return mean and sum of squared deviations in float64, and the count, over all processes."""
    mean, m2 = channel_like(x), channel_like(x)
    count = _core.batch_norm_statistics(x, 1, mean, m2)
    own = torch.cat([mean.double(), m2.double(), mean.new_tensor([count], dtype=torch.float64)])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    channels = mean.shape[0]
    return ops.merge_statistics([(p[:channels], p[channels:-1], int(p[-1].item())) for p in parts])


class SyncTraining(Function):
    """With the statistics of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        running: tuple[Any, ...] | None,
        eps: float,
        negative_slope: float,
        group: Any,
    ) -> torch.Tensor:
        """Gather, merge and normalise; `running` is what `update_running_stats` takes besides."""
        mean64, m2, count = _statistics_of_group(x, group)
        if count == 1:
            raise ValueError(
                "`input` must have more than one value per channel in training. "
                "Received: one in all processes"
            )
        mean, inv_std, y = channel_like(x), channel_like(x), torch.empty_like(x)
        mean.copy_(mean64)
        inv_std.copy_((m2 / max(count, 1) + eps).rsqrt())
        _core.batch_norm_apply(x, mean, inv_std, gamma, beta, negative_slope, 1, y)
        if running is not None:
            running_mean, running_var, *rest = running
            var = m2 / max(count - 1, 1)
            update_running_stats(running_mean, running_var, mean64, var, count, *rest)
        ctx.save_for_backward(x, gamma, beta, mean, inv_std)
        ctx.options = count, negative_slope, group
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        """Return the gradients of the arguments; those of parameters are this process' own."""
        if torch.is_grad_enabled():
            refuse_second_derivative()
        x, gamma, beta, mean, inv_std = ctx.saved_tensors
        count, negative_slope, group = ctx.options
        own = (channel_like(x), channel_like(x))
        _core.batch_norm_backward_reduce(
            *(grad, x, gamma, beta, mean, inv_std, negative_slope, 1, *own)
        )
        sums = torch.stack(own).double()
        dist.all_reduce(sums, group=group)
        grad_x = torch.empty_like(x)
        sum_grad, sum_grad_xhat = sums.to(mean.dtype).unbind()
        _core.batch_norm_backward_apply(
            *(grad, x, gamma, beta, mean, inv_std, sum_grad, sum_grad_xhat),
            *(count, negative_slope, 1, grad_x),
        )
        grad_beta, grad_gamma = own
        return (
            grad_x,
            None if gamma is None else grad_gamma,
            None if beta is None else grad_beta,
            *(None,) * 4,
        )


def _apply(*arguments: Any) -> Any:
    return SyncTraining.apply(*arguments)


leave_backward_out_of_graphs(SyncTraining)
# Behind the graph break dynamo would go on tracing, and warn of each kernel.
_apply_outside_of_graphs = torch._disable_dynamo(_apply)


class SyncBatchNormLeakyReLU(BatchNormLeakyReLU):
    """`torch.nn.SyncBatchNorm` and `LeakyReLU` in one, on the CPU, too.

    In training the statistics are those of the batches of all processes of a group together; their
    sizes may differ. Without a process group, or with one process, and in evaluation it is a
    :class:`BatchNormLeakyReLU1d` for inputs of any rank. PyTorch's own raises on the CPU.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        As in :class:`BatchNormLeakyReLU1d`.
    process_group : torch.distributed.ProcessGroup, optional
        The processes; by default all. The sixth argument, as in `torch.nn.SyncBatchNorm`.
    negative_slope : float, default 0.01
        As in :class:`BatchNormLeakyReLU1d`.

    Raises
    ------
    ValueError
        For an input of fewer than two axes, or one value per channel in all processes.
    RuntimeError
        When gradients are recorded to be differentiated (``create_graph=True``).

    Notes
    -----
    One all-gather of 2 C + 1 numbers forward, one all-reduce of 2 C backward. The gradients of
    `weight` and `bias` are this process' own, for `DistributedDataParallel` to average with all
    others. On a GPU the counts are waited for. `torch.compile` leaves the call in a process group
    out of its graph: a graph break, and with ``fullgraph=True`` an error that says so. It is a
    `_BatchNorm`, but no `torch.nn.SyncBatchNorm` by `isinstance`, as `DistributedDataParallel`
    refuses those on the CPU.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        negative_slope: float = 0.01,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, negative_slope),
            device=device,
            dtype=dtype,
            bias=bias,
        )
        self.process_group = process_group

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def _is_alone(self) -> bool:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return True
        return bool(dist.get_world_size(self.process_group) == 1)

    def _normalise(self, input: torch.Tensor, negative_slope: float | None) -> torch.Tensor:
        if self._is_alone():
            return super()._normalise(input, negative_slope)
        if not isinstance(input, torch.Tensor):
            raise TypeError(f"`input` must be a tensor. Received: type={type(input).__name__}")
        self._check_input_dim(input)
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"`input` must have `num_features`={self.num_features} channels, its second axis. "
                f"Received: shape={tuple(input.shape)}"
            )
        running = None
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            running = (
                *(self.running_mean, self.running_var),
                *(self.momentum, self.num_batches_tracked),
            )
        weight, bias = (
            p if p is None or p.dtype is torch.float64 else p.float()
            for p in (self.weight, self.bias)
        )
        apply = SyncTraining.apply
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break(
                "SyncBatchNormLeakyReLU in a process group is not part of compiled programs: leave "
                "out fullgraph=True, or use BatchNormLeakyReLU1d, 2d or 3d, with own statistics."
            )
            apply = _apply_outside_of_graphs
        try:
            return apply(input, weight, bias, running, self.eps, negative_slope, self.process_group)
        except (RuntimeError, TypeError, ValueError) as error:
            if running is not None:  # no batch
                self.num_batches_tracked.sub_(1)
            say_in_torchs_names(error, input)
            raise
