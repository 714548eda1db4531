"""fusednn's kernels in PyTorch programs.

BatchNorm with leaky ReLU as modules (`BatchNormLeakyReLU1d`, `2d`, `3d`, and over several processes
`SyncBatchNormLeakyReLU`) and as a function (`functional.batch_norm_leaky_relu`); `convert`, which
puts them into a model, and `revert`; the optimizers of `fusednn.torch.optim`.
"""

from fusednn.torch import functional, optim
from fusednn.torch.convert import convert, convert_sync_batchnorm, revert
from fusednn.torch.modules import (
    BatchNormLeakyReLU1d,
    BatchNormLeakyReLU2d,
    BatchNormLeakyReLU3d,
)
from fusednn.torch.pairs import Pair, find_pairs
from fusednn.torch.sync import SyncBatchNormLeakyReLU

__all__ = [
    "BatchNormLeakyReLU1d",
    "BatchNormLeakyReLU2d",
    "BatchNormLeakyReLU3d",
    "Pair",
    "SyncBatchNormLeakyReLU",
    "convert",
    "convert_sync_batchnorm",
    "find_pairs",
    "functional",
    "optim",
    "revert",
]
