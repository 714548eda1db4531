"""Keras on PyTorch: `keras_leaky_relu` in a process with that backend."""

from fusednn.benchmarks.peers.keras_leaky_relu import build

__all__ = ["build"]
