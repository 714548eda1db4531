"""Arrays of .npy and .npz files as memory maps: read where used, larger than memory if need be."""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO

import numpy as np

from fusednn.saving.npz_file import read_header

Array = np.ndarray[Any, np.dtype[Any]]

#: Of a member's header within a zip archive: signature, then the lengths of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def map_npy(path: str | os.PathLike[str]) -> Array:
    """Return the array of a .npy file as a read-only memory map.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a .npy file, is truncated, or holds Python objects, which are never unpickled.
    """
    with open(path, "rb") as file:
        return _mapped(file, os.fspath(path), os.fspath(path), 0)


def map_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays of a .npz archive by name, as read-only memory maps.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a .npz archive, is damaged, or was compressed (by `numpy.savez_compressed`):
        what is compressed cannot be read in part.
    """
    import zipfile

    source = os.fspath(path)
    arrays: dict[str, Array] = {}
    with open(path, "rb") as file:
        try:
            members = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error) as error:
            raise ValueError(f"{source}: not a .npz archive, or truncated ({error})") from None
        for member in members:
            name = member.filename.removesuffix(".npy")
            where = f"{source}: {name}"
            if name == member.filename:
                continue
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(
                    f"{where} is compressed, and cannot be mapped: write the file with "
                    "numpy.savez, not savez_compressed"
                )
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
                raise ValueError(f"{where}: the archive is damaged (no member at its place)")
            _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
            arrays[name] = _mapped(file, source, where, start, member.file_size)
    if not arrays:
        raise ValueError(f"{source}: must hold arrays. Received: no array")
    return arrays


def _mapped(file: BinaryIO, path: str, where: str, start: int, length: int | None = None) -> Array:
    """Map the array in .npy format at `start`, of so many bytes, or to the end of the file."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    end = size if length is None else min(start + length, size)
    file.seek(start)
    shape, fortran, dtype = read_header(file, where)
    data = file.tell()
    count = 1
    for side in shape:
        count *= side
    if data + count * dtype.itemsize > end:
        raise ValueError(
            f"{where}: truncated: its header says {count * dtype.itemsize} bytes of data. "
            f"Received: {max(end - data, 0)}"
        )
    order: Any = "F" if fortran else "C"
    if count == 0:
        return np.zeros(shape, dtype, order)
    mapped = np.memmap(path, dtype, "r", data, shape, order)
    return np.asarray(mapped)
