"""MNIST, 70,000 handwritten digits of 28 x 28 pixels, from the files that the user has.

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits (1998).
"""

from __future__ import annotations

import os

from fusednn.datasets.labeled_data import LabeledData
from fusednn.datasets.mnist_files import Pairs, labeled, read_pairs
from fusednn.datasets.original_files import OriginalFiles

_FILES = OriginalFiles(
    "MNIST",
    usual=("mnist.npz", "mnist", "MNIST"),
    sources=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)


def load_data(path: str | os.PathLike[str] | None = None) -> Pairs:
    """Return ``(x_train, y_train), (x_test, y_test)``, as Keras' function of this name.

    Parameters
    ----------
    path
        Keras' mnist.npz, or a folder with the four IDX files (``train-images-idx3-ubyte``, ...),
        each plain or gzipped. A relative path is looked for in ``~/.keras/datasets``, too
        (``KERAS_HOME`` is heeded). None: what is there. (Keras downloads; this package does not.)

    Returns
    -------
    x_train, x_test : ndarray, uint8, shape (n, 28, 28)
        Pixels 0 ... 255; of the original, n is 60,000 and 10,000.
    y_train, y_test : ndarray, uint8, shape (n,)
        The digit, 0 ... 9.

    Raises
    ------
    FileNotFoundError
        If the files are not there; where they were looked for, and come from, is named.
    ValueError
        If a file is missing in the folder, truncated, damaged, or holds anything else.
    """
    return read_pairs(_FILES, path)


def load(path: str | os.PathLike[str] | None = None) -> LabeledData:
    """Return the same as `LabeledData`."""
    return labeled(_FILES, path)
