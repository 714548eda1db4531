"""Fashion-MNIST, 70,000 pictures of clothes of 28 x 28 pixels, from the files that the user has.

Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking
Machine Learning Algorithms (2017).
"""

from __future__ import annotations

import os
from dataclasses import replace

from fusednn.datasets.labeled_data import LabeledData
from fusednn.datasets.mnist_files import Pairs, labeled, read_pairs
from fusednn.datasets.original_files import OriginalFiles

#: Names of the classes, by their numbers.
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_FILES = OriginalFiles(
    "Fashion-MNIST",
    usual=("fashion-mnist", "FashionMNIST", "fashion-mnist.npz"),
    other=("/usr/share/datasets/fashion-mnist",),  # Debian's package dataset-fashion-mnist
    sources=("https://github.com/zalandoresearch/fashion-mnist",),
)


def load_data(path: str | os.PathLike[str] | None = None) -> Pairs:
    """Return ``(x_train, y_train), (x_test, y_test)``, as Keras' function of this name.

    Parameters
    ----------
    path
        A folder with the four IDX files (``train-images-idx3-ubyte.gz``, ...), each plain or
        gzipped, or a .npz file of the four arrays. A relative path is looked for in
        ``~/.keras/datasets``, too (``KERAS_HOME`` is heeded). None: what is there, or what Debian's
        package installs. (Keras downloads, and has no such argument.)

    Returns
    -------
    x_train, x_test : ndarray, uint8, shape (n, 28, 28)
        Pixels 0 ... 255; of the original, n is 60,000 and 10,000.
    y_train, y_test : ndarray, uint8, shape (n,)
        Numbers in `CLASSES`.

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
    data = labeled(_FILES, path)
    return replace(data, classes=tuple(CLASSES[int(label)] for label in data.classes))
