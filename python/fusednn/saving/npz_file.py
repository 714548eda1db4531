"""Arrays of NumPy's files, their descriptions checked before what they describe is read."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Collection
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: Most that a compressed array may grow by, unless it is small.
_LARGEST_RATIO = 200
_SMALL = 2**26


def names_in(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the arrays in an archive."""
    names = archive.namelist()
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_arrays(archive: zipfile.ZipFile, names: Collection[str]) -> dict[str, Array]:
    """Return the arrays of these names, all of which are in the archive.

    Raises
    ------
    ValueError
        An array is described as something else than numbers or strings, or as of another size than
        it has; or is compressed so much that the archive is no honest one. Names the array.
    """
    return {name: _read_array(archive, name) for name in names}


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    info = archive.getinfo(f"{name}.npy")
    limit = max(_SMALL, info.compress_size * _LARGEST_RATIO)
    if info.file_size > limit:
        raise ValueError(f"{name} must have at most {limit} bytes. Received: {info.file_size}")
    with archive.open(info) as file:
        shape, _, dtype = read_header(file, name)
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - file.tell():
            raise ValueError(
                f"{name} must hold the {size} bytes that its header says. "
                f"Received: {info.file_size - file.tell()}"
            )
    with archive.open(info) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # to the end, where the checksum is compared
    return array


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether Fortran's order, and dtype of an array in .npy format.

    Raises
    ------
    ValueError
        There is no such array, or one of Python objects, which are never unpickled.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version} of the format is unknown")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of numbers that Python 2 wrote
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # NumPy parses the header as Python: any of the parsers' errors
        raise ValueError(f"{name}: not an array in .npy format ({error})") from None
    if dtype.hasobject:
        raise ValueError(f"{name}: must hold numbers. Received: Python objects, dtype {dtype}")
    if min(shape, default=0) < 0 or not dtype.itemsize:
        raise ValueError(f"{name}: must hold numbers. Received: shape {shape}, dtype {dtype}")
    return shape, fortran, dtype
