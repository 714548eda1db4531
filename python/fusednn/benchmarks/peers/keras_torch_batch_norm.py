"""Keras on PyTorch: `keras_batch_norm` in a process with that backend."""

from fusednn.benchmarks.peers.keras_batch_norm import build

__all__ = ["build"]
