"""BatchNorm followed by leaky ReLU as one module, in place of the two of `torch.nn`."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from fusednn._arguments import check_number
from fusednn.torch.autograd import count_batch, is_plain
from fusednn.torch.functional import normalise, say_in_torchs_names


def call_as_leaf(module: nn.Module, input: fx.Proxy) -> Any:
    """Record one call in a graph of `torch.fx`, which takes no modules but PyTorch's for leaves."""
    tracer: Any = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input,), {})


class BatchNormLeakyReLU(nn.modules.batchnorm._BatchNorm):
    """What the modules for one, two and three dimensions have in common; not to be used itself."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        negative_slope: float = 0.01,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        check_number("negative_slope", negative_slope)
        if inplace and negative_slope <= 0:
            raise ValueError(
                "`negative_slope` must be positive where `inplace` is true. "
                f"Received: negative_slope={negative_slope}"
            )
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:  # PyTorch before 2.13 has no such argument
            self.bias = None
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise, scale, shift and activate `input`, a tensor (N, C, ...)."""
        if type(input) is fx.Proxy and input.tracer.root is not self:
            return call_as_leaf(self, input)
        return self._normalise(input, self.negative_slope)

    def _normalise(self, input: torch.Tensor, negative_slope: float | None) -> torch.Tensor:
        """Normalise, scale, shift and, unless `negative_slope` is None, activate."""
        try:
            self._check_input_dim(input)
        except AttributeError as error:
            say_in_torchs_names(error, input)
            raise
        # As attributes these are found by a function of Python's, which takes as long as a kernel.
        parameters, buffers = self._parameters, self._buffers
        if "weight" in parameters and "bias" in parameters:
            weight, bias = parameters["weight"], parameters["bias"]
        else:  # parametrized
            weight, bias = self.weight, self.bias
        running_mean, running_var = buffers["running_mean"], buffers["running_var"]
        if input.shape[1] != self.num_features and not (weight is None and running_mean is None):
            # Before anything is counted; the kernel would name its own arguments.
            raise ValueError(
                f"`input` must have `num_features`={self.num_features} channels, its second axis. "
                f"Received: shape={tuple(input.shape)}"
            )
        plain, training = is_plain(input), self.training
        tracking, num_batches_tracked = training and self.track_running_stats, None
        if tracking and buffers["num_batches_tracked"] is not None:
            num_batches_tracked = buffers["num_batches_tracked"]
            count_batch(num_batches_tracked, plain)
        training = training or (running_mean is None and running_var is None)
        if training and not tracking:
            running_mean = running_var = None
        try:
            return normalise(
                plain,
                input,
                running_mean,
                running_var,
                weight,
                bias,
                training,
                self.momentum,
                self.eps,
                negative_slope,
                self.inplace,
                num_batches_tracked,
            )
        except Exception:
            if num_batches_tracked is not None:  # no batch
                num_batches_tracked.sub_(1)
            raise

    def extra_repr(self) -> str:
        """Return the arguments, for the representation."""
        inplace = ", inplace=True" if self.inplace else ""
        return f"{super().extra_repr()}, negative_slope={self.negative_slope}{inplace}"


class BatchNormLeakyReLU1d(BatchNormLeakyReLU, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` and `LeakyReLU` in one, for inputs (N, C) or (N, C, L).

    ``y = leaky_relu((x - mean) / sqrt(var + eps) * weight + bias)``, one pass over memory forward
    and one backward. It is a `torch.nn.BatchNorm1d`: the same parameters, buffers, `state_dict`,
    semantics of `train` and `eval`, and the same gradients.

    Parameters
    ----------
    num_features : int
        Channels, the C of the inputs.
    eps : float, default 1e-5
        Keras' default is 1e-3.
    momentum : float or None, default 0.1
        Weight of the batch in running statistics (Keras' `momentum` is one minus it); None is the
        average over all batches.
    affine : bool, default True
        Whether there are `weight` and `bias`.
    track_running_stats : bool, default True
        Whether there are running statistics; without them evaluation uses the batch's, too.
    negative_slope : float, default 0.01
        Of the leaky ReLU, as in `torch.nn.LeakyReLU` (Keras: 0.3); 0 is ReLU.
    inplace : bool, default False
        Overwrite the input and keep the output alone for the backward pass: one activation less.
        Needs ``negative_slope > 0`` and no `weight` that is zero or tiny beside `bias`, as
        :func:`fusednn.torch.functional.batch_norm_leaky_relu` says; other weights are an error
        when gradients are recorded. What would change the saved output before the backward pass is
        an error then.
    device, dtype
        Of parameters and buffers.
    bias : bool, default True
        By keyword: whether there is a `bias` where `affine` is true, as in PyTorch since 2.13.

    Raises
    ------
    ValueError
        For a `negative_slope` that is not finite, or not positive where `inplace` is true; when
        called, for an input of another rank or with other than `num_features` channels, or in
        training with one value per channel.
    """


class BatchNormLeakyReLU2d(BatchNormLeakyReLU, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` and `LeakyReLU` in one, for inputs (N, C, H, W).

    Everything else is as in `BatchNormLeakyReLU1d`.
    """


class BatchNormLeakyReLU3d(BatchNormLeakyReLU, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` and `LeakyReLU` in one, for inputs (N, C, D, H, W).

    Everything else is as in `BatchNormLeakyReLU1d`.
    """
