"""`Sequential`, with Keras' names and semantics, run as fused kernels on reused memory."""

from fusednn.models.clone import clone_model
from fusednn.models.sequential import Sequential

__all__ = ["Sequential", "clone_model"]
