"""Reading NumPy's .npz archives."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.labeled_data import LabeledData

if TYPE_CHECKING:
    from zipfile import ZipFile

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
    from fusednn.saving.npz_file import names_in, read_arrays

    source = os.fspath(path)
    with _opened(source) as archive:
        names = _names(source, names_in(archive))
        arrays = list(read_arrays(archive, names).values())
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
    from fusednn.saving.npz_file import names_in, read_arrays

    source = os.fspath(path)
    with _opened(source) as archive:
        found = names_in(archive)
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"must hold {', '.join(names)}. Missing: {missing[0]}")
        return list(read_arrays(archive, names).values())


@contextmanager
def _opened(source: str) -> Iterator[ZipFile]:
    """Open an archive; what its content causes is a ValueError that names it."""
    import zipfile

    from fusednn.saving.opened import OF_CONTENT

    with open(source, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except zipfile.BadZipFile as error:
            other = "; `fusednn.datasets.load_csv` reads tables of text"
            raise ValueError(
                f"{source}: not a .npz archive, or damaged or truncated ({error})"
                f"{other if source.endswith(('.csv', '.txt', '.tsv')) else ''}"
            ) from None
        except ValueError as error:
            told = str(error).removeprefix(f"{source}: ")
            raise ValueError(f"{source}: {told}") from None
        except OF_CONTENT as error:
            raise ValueError(f"{source}: the archive is damaged ({error})") from None


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
