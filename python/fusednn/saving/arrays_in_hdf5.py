"""Arrays in HDF5 files, read only where they are what the reader expects, and nothing else.

Files are written with checksums, which every reader that uses the HDF5 library compares: those of
arrays are HDF5's filter Fletcher32, those of names, shapes and places belong to the format since
version 1.10. Texts of any length have none there: `write_texts` adds one that is our own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_LARGEST_CHUNK = 16 * 2**20  # bytes: what is read and checked at a time
_CRC = "fusednn_crc32"


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


def new_file(target: Path | BinaryIO) -> Any:
    """Open an HDF5 file for writing, in the format that has checksums of all but texts.

    HDF5 reads it since version 1.10, of 2016, which every h5py of Keras 2 and 3 brings.
    """
    return h5py().File(target, "w", libver=("v110", "v110"))


def write_array(group: Any, name: str, array: Array) -> None:
    """Write an array, with a checksum unless it is a single number or has no elements."""
    if array.ndim == 0 or array.size == 0:  # which HDF5 has no chunks and so no filters for
        group.create_dataset(name, data=array)
        return
    chunk = list(array.shape)
    while np.prod(chunk, dtype=object) * array.itemsize > _LARGEST_CHUNK:
        longest = int(np.argmax(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    group.create_dataset(name, data=array, chunks=tuple(chunk), fletcher32=True)


def write_texts(file: Any, texts: Mapping[str, str]) -> None:
    """Write texts as attributes, and a checksum of them."""
    for name, text in texts.items():
        file.attrs[name] = text
    file.attrs[_CRC] = np.uint32(_crc(texts))


def read_texts(file: Any, names: tuple[str, ...]) -> dict[str, str]:
    """Return those of the named attributes that are there, after their checksum, if there is one.

    Raises
    ------
    ValueError
        One is no text, or the checksum is that of other texts.
    """
    texts: dict[str, str] = {}
    for name in names:
        if name in file.attrs:
            text = file.attrs[name]
            if isinstance(text, bytes):
                text = text.decode("utf-8")
            if not isinstance(text, str):
                raise ValueError(f"'{name}' in the file is no text. Received: {text!r:.80}")
            texts[name] = text
    if _CRC in file.attrs and int(file.attrs[_CRC]) != _crc(texts):
        raise ValueError(f"The file is damaged: the checksum of {' and '.join(texts)} is another.")
    return texts


def _crc(texts: Mapping[str, str]) -> int:
    return zlib.crc32("\0".join(texts.values()).encode("utf-8", "surrogatepass"))


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
