"""Keras on PyTorch: `keras_optimizer` in a process with that backend."""

from fusednn.benchmarks.peers.keras_optimizer import build

__all__ = ["build"]
