"""Data that need not fit in memory: `Dataset`, a pipeline of elements that models are fitted to.

A `Dataset` is made of arrays, memory maps of .npy and .npz files, or generators, and changed by
`shuffle`, `batch`, `map`, `prefetch`, `repeat`, `take` and `skip`, which are named after tf.data's.
`PyDataset` is the base of batches that the user computes.
"""

from fusednn.data.dataset import Dataset
from fusednn.data.memory_maps import map_npy, map_npz
from fusednn.data.py_dataset import PyDataset
from fusednn.data.stages import INFINITE_CARDINALITY, UNKNOWN_CARDINALITY

__all__ = [
    "INFINITE_CARDINALITY",
    "UNKNOWN_CARDINALITY",
    "Dataset",
    "PyDataset",
    "map_npy",
    "map_npz",
]
