"""Reading NumPy's .npz archives."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.labeled_data import LabeledData

_DAMAGE = (zlib.error, EOFError, RuntimeError, MemoryError)
_KEY_SETS = (("x_train", "y_train", "x_test", "y_test"), ("x_train", "y_train"), ("x", "y"))


def read_npz(path: str | os.PathLike[str]) -> LabeledData:
    """Read features and labels from a .npz archive.

    The archive holds ``x_train, y_train, x_test, y_test``, or ``x_train, y_train``, or ``x, y``
    (upper or lower case); the first of these sets that is complete is read, other arrays are
    ignored. Features have shape (n, ...), labels (n,) or (n, 1), integers or strings. uint8
    features of rank 3 or more are taken for images, a lit pixel being 255. Python objects in the
    archive are refused, never unpickled.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a .npz archive, is damaged, lacks the arrays, or holds unusable ones.
    """
    import zipfile

    source = os.fspath(path)
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{source}: not a .npz archive (a zip file of arrays), or truncated")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = _names(source, archive.files)
            arrays = [_array(source, archive, name) for name in names]
    except (*_DAMAGE, zipfile.BadZipFile) as error:
        raise ValueError(f"{source}: the archive is damaged ({error})") from None
    x = arrays[0]
    return LabeledData.from_arrays(
        source,
        (x, arrays[1]),
        (arrays[2], arrays[3]) if len(arrays) == 4 else None,
        names=names,
        pixel_max=255.0 if x.dtype == np.uint8 and x.ndim >= 3 else None,
    )


def npz_arrays(path: str | os.PathLike[str], names: Sequence[str]) -> list[NDArray[Any]]:
    """Return the arrays of these names in a .npz archive.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a .npz archive, is damaged, lacks an array, or holds Python objects.
    """
    import zipfile

    source = os.fspath(path)
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                missing = [name for name in names if name not in archive.files]
                if not missing:
                    return [archive[name] for name in names]
        except (*_DAMAGE, zipfile.BadZipFile, ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"{source}: not a .npz archive, or damaged ({error})") from None
    raise ValueError(f"{source}: must hold {', '.join(names)}. Missing: {missing[0]}")


def _names(source: str, found: list[str]) -> list[str]:
    """Return the archive's own spellings of the first complete set of keys."""
    spelling = {name.lower(): name for name in found}
    for keys in _KEY_SETS:
        if all(key in spelling for key in keys):
            return [spelling[key] for key in keys]
    raise ValueError(
        f"{source}: must hold the arrays x and y, or x_train and y_train (and x_test and y_test). "
        f"Received: {', '.join(found) or 'no array'}"
    )


def _array(source: str, archive: Mapping[str, Any], name: str) -> NDArray[Any]:
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        raise ValueError(f"{source}: {name} cannot be read ({error})") from None
