"""fusednn's kernels in JAX programs, as handlers of XLA's foreign function interface.

Leaky ReLU (`leaky_relu`) under `jax.jit`, `jax.grad`, `jax.vmap` and `jax.shard_map`.
"""

from fusednn.jax import handlers

handlers.register()

from fusednn.jax.activation import leaky_relu  # noqa: E402  the handlers are there now

__all__ = ["leaky_relu"]
