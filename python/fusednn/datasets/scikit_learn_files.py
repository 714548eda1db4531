"""Tables that come with scikit-learn, read without importing it, which is far slower than all else.

Each has a fallback: scikit-learn's own function, where its files are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_FOLDER = ("datasets", "data")


def tables(
    what: str, names: tuple[str, ...], read: Callable[..., tuple[Array, Array]], fallback: str
) -> tuple[Array, Array]:
    """Return features and targets of files of scikit-learn.

    Parameters
    ----------
    what
        Names the data in messages.
    names
        Of the files.
    read
        Makes features and targets of the files' paths.
    fallback
        Name of scikit-learn's function.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    """
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{what} come with scikit-learn, which is not installed: pip install scikit-learn",
            name="sklearn",
        )
    files = [Path(spec.submodule_search_locations[0], *_FOLDER, name) for name in names]
    if all(file.is_file() for file in files):
        return read(*files)
    from importlib import import_module

    options = {"scaled": False} if fallback == "load_diabetes" else {}
    bunch = getattr(import_module("sklearn.datasets"), fallback)(**options)
    return np.asarray(bunch.data), np.asarray(bunch.target)


def counted_table(path: Path) -> tuple[Array, Array]:
    """Read a table whose last column is the class, under a line of numbers and names of classes."""
    table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float64, ndmin=2)
    return table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64)
