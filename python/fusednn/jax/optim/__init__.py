"""Optimizers for JAX: optax's `init` and `update`, and a fused step in place, `apply`."""

from fusednn.jax.optim.optimizers import (
    AdagradState,
    AdamState,
    RmspropState,
    SgdState,
    adagrad,
    adam,
    adamw,
    rmsprop,
    sgd,
)
from fusednn.jax.optim.transformation import FusedTransformation

__all__ = [
    "AdagradState",
    "AdamState",
    "FusedTransformation",
    "RmspropState",
    "SgdState",
    "adagrad",
    "adam",
    "adamw",
    "rmsprop",
    "sgd",
]
