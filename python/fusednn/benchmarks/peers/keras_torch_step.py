"""Keras on PyTorch: `keras_step` in a process with that backend."""

from fusednn.benchmarks.peers.keras_step import build

__all__ = ["build"]
