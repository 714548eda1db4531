"""Houses in California: 20,640 districts of the census of 1990, 8 features, the median value.

Source: R. Pace, R. Barry, Sparse Spatial Autoregressions, Statistics and Probability Letters
(1997).
"""

from __future__ import annotations

import os

from fusednn.datasets.npz_file import npz_arrays
from fusednn.datasets.original_files import OriginalFiles
from fusednn.datasets.random_split import Pairs, random_split

_FILES = OriginalFiles(
    "California housing",
    usual=("california_housing.npz",),
    sources=("https://storage.googleapis.com/tensorflow/tf-keras-datasets/california_housing.npz",),
)


def load_data(
    version: str = "large",
    path: str | os.PathLike[str] = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> Pairs:
    """Return ``(x_train, y_train), (x_test, y_test)``, as Keras' function of this name.

    Parameters
    ----------
    version
        "large", or "small": the first 600 districts.
    path
        Keras' file, there or in ``~/.keras/datasets`` (``KERAS_HOME`` is heeded). (Keras downloads;
        this package does not. Tables of text are read by `fusednn.datasets.load_csv`.)
    test_split, seed
        The split, see `fusednn.datasets.random_split`.

    Returns
    -------
    x_train, x_test : ndarray, float32, shape (n, 8)
        Longitude, latitude, age, rooms, bedrooms, population, households, income.
    y_train, y_test : ndarray, float32, shape (n,)
        Median value of the houses in dollars.

    Raises
    ------
    FileNotFoundError
        If the file is not there; where it was looked for, and comes from, is named.
    ValueError
        If it is damaged or holds anything else, or an argument does not fit.
    """
    if version not in ("large", "small"):
        raise ValueError(f"`version` must be 'large' or 'small'. Received: version={version!r}")
    place = _FILES.find(path)
    x, y = npz_arrays(place, ("x", "y"))
    if x.dtype.kind != "f" or x.ndim != 2 or y.dtype.kind != "f" or y.shape != x.shape[:1]:
        raise ValueError(
            f"{place}: must hold numbers, x of shape (n, 8) and y of shape (n,). "
            f"Received: {x.dtype} of shape {x.shape} and {y.dtype} of shape {y.shape}"
        )
    count = 600 if version == "small" else len(x)
    return random_split(x[:count], y[:count], test_split, seed)
