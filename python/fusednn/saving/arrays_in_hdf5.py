"""Arrays in HDF5 files, read only where they are what the reader expects, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class MismatchError(ValueError):
    """A layer's arrays are missing, too many, or of other shapes."""


def h5py() -> Any:
    """Return the module h5py, or raise an error that says how to get it."""
    try:
        import h5py
    except ImportError:
        raise ImportError(
            "Files of Keras are HDF5 files: install h5py, or `fusednn[files]`."
        ) from None
    return h5py


def child(group: Any, name: str) -> Any:
    """Return what `name` is in a group, which must lie in the same file; None where it is missing.

    Raises
    ------
    ValueError
        It is a link to another file or place.
    """
    parts = name.split("/")
    for part in parts:
        link = group.get(part, getlink=True) if part in group else None
        if link is None:
            return None
        if not isinstance(link, h5py().HardLink):
            raise ValueError(f"The file has a link at '{group.name}/{part}': links are refused.")
        group = group[part]
    return group


def read_array(dataset: Any, shape: tuple[int, ...] | None, what: str) -> Array:
    """Return a dataset as an array, after its shape and type were found to be right.

    Where `shape` is None, an array without axes is returned as it is, and an empty one stands for
    all others.

    Raises
    ------
    MismatchError
        It is missing, or its shape is another one.
    ValueError
        It does not hold real numbers, or its data are not in the file.
    """
    if not isinstance(dataset, h5py().Dataset):
        raise MismatchError(f"The file has no array for {what}.")
    if shape is None and dataset.shape != ():
        return np.empty(0)
    if tuple(dataset.shape) != (shape or ()):
        raise MismatchError(
            f"The file must hold an array of shape {shape} for {what}. "
            f"Received: shape {tuple(dataset.shape)}"
        )
    if dataset.dtype.kind not in "biuf":
        raise ValueError(
            f"The file must hold real numbers for {what}. Received: dtype {dataset.dtype}"
        )
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"The data of {what} are in another file: that is refused.")
    try:
        array: Array = dataset[()]
    except OSError as error:
        raise ValueError(f"The data of {what} cannot be read: {error}") from None
    return np.asarray(array)


def stored_elements(group: Any) -> int:
    """Count the elements of all arrays below a group, as far as their data are in the file."""
    return sum(_stored(dataset) for dataset in _datasets(group))


def _stored(dataset: Any) -> int:
    # Compressed data may be a thousand times as large, no more: fill values take no place at all.
    return min(int(dataset.size), 1000 * int(dataset.id.get_storage_size()))


def _datasets(group: Any) -> Iterator[Any]:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py().HardLink):
            raise ValueError(f"The file has a link at '{group.name}/{name}': links are refused.")
        value = group[name]
        if isinstance(value, h5py().Group):
            yield from _datasets(value)
        else:
            yield value


def strings(group: Any, name: str) -> list[str]:
    """Return an attribute that is a list of strings; Keras splits long ones into several."""
    values: list[Any] = []
    if name in group.attrs:
        values = list(group.attrs[name])
    else:
        part = 0
        while f"{name}{part}" in group.attrs:
            values += list(group.attrs[f"{name}{part}"])
            part += 1
    return [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
