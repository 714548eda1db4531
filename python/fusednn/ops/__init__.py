"""The kernels as functions on arrays.

Arrays are NumPy's, of dtype float32, float64, float16, or bfloat16 (from ml_dtypes), or those of
another package that have ``__dlpack__`` (PyTorch, CuPy, JAX, ...) or ``__cuda_array_interface__``;
all arrays of a call are on one device. Results are new arrays of the same package, where that is
NumPy, PyTorch or CuPy, or go to ``out=``: the main result alone (``y``, ``grad_x``) or a tuple of
all of them. ``out`` may be an input itself (in place) and must not overlap one partly. Inputs of
any strides are taken from NumPy and PyTorch: those whose memory is not laid out as that of the
result are copied first; arrays of other packages are never copied and must be laid out as the
result is. Data may be misaligned. PyTorch's autograd does not see these functions
(``fusednn.torch`` has some that it does see): tensors that require gradients are refused unless
under ``torch.no_grad()``, and a tensor that is written keeps its version counter. Per-channel
arrays (``gamma``, ``beta``, ``mean``, ``inv_std``, running statistics) are float32, or float64
where ``x`` is float64.

Every function releases the GIL while it computes, except for a few microseconds of work, may be
called from several threads at once, gives the same bits on every instruction set and for every
number of threads, and changes nothing when it raises.
"""

from fusednn.ops.activation import leaky_relu, leaky_relu_backward
from fusednn.ops.adam import adam_step, adamax_step, nadam_step
from fusednn.ops.batch_norm import (
    batch_norm_backward,
    batch_norm_backward_from_output,
    batch_norm_forward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from fusednn.ops.batch_norm_stages import (
    batch_norm_apply,
    batch_norm_backward_apply,
    batch_norm_backward_reduce,
    batch_norm_statistics,
    merge_statistics,
)
from fusednn.ops.global_norm import global_norm
from fusednn.ops.optimizer import (
    adagrad_step,
    optimizer_step,
    rmsprop_step,
    sgd_step,
)
from fusednn.ops.quantized_state import QuantizedState, quantized_state

__all__ = [
    "QuantizedState",
    "adagrad_step",
    "adam_step",
    "adamax_step",
    "batch_norm_apply",
    "batch_norm_backward",
    "batch_norm_backward_apply",
    "batch_norm_backward_from_output",
    "batch_norm_backward_reduce",
    "batch_norm_forward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "batch_norm_statistics",
    "global_norm",
    "leaky_relu",
    "leaky_relu_backward",
    "merge_statistics",
    "nadam_step",
    "optimizer_step",
    "quantized_state",
    "rmsprop_step",
    "sgd_step",
]
