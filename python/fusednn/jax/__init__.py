"""fusednn's kernels in JAX programs, as handlers of XLA's foreign function interface.

Under `jax.jit`, `jax.grad`, `jax.vmap` and `jax.shard_map`: BatchNorm with leaky ReLU in training
(`batch_norm`), also over several devices, and with given statistics (`batch_norm_inference`); leaky
ReLU alone (`leaky_relu`); optimizer steps (`optimizer_step`), and the optimizers of
`fusednn.jax.optim`, which are gradient transformations as optax has them.
"""

from fusednn.jax import handlers

handlers.register()

from fusednn.jax import optim  # noqa: E402
from fusednn.jax.activation import leaky_relu  # noqa: E402  the handlers are there now
from fusednn.jax.batch_norm import batch_norm, batch_norm_inference  # noqa: E402
from fusednn.jax.handlers import export_checks  # noqa: E402
from fusednn.jax.steps import optimizer_step  # noqa: E402

__all__ = [
    "batch_norm",
    "batch_norm_inference",
    "export_checks",
    "leaky_relu",
    "optim",
    "optimizer_step",
]
