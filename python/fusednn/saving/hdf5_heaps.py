"""A check of HDF5 files before they are opened: damaged global heaps make the library hang.

Texts of any length, such as Keras' `model_config`, are objects of a global heap: "GCOL", a version,
3 bytes, the heap's size; then objects, each with a number, a count of references, 4 bytes, its size
and its data, padded to 8 bytes. Number 0 is free space, whose size includes the 16 bytes before it.
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html has it. The library walks from
object to object, and does not notice where a size of 0 keeps it in its place.
"""

from __future__ import annotations

import mmap
from pathlib import Path

_HEAD = 16  # bytes before the first object, and before an object's data


def check_heaps(path: Path) -> None:
    """Walk through all global heaps of a file.

    Raises
    ------
    ValueError
        A heap reaches beyond the file, or an object beyond its heap, or one has no place.
    """
    if path.stat().st_size < _HEAD:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(b"GCOL")
        while place >= 0:
            if place % 8 == 0:
                _check_heap(data, place)
            place = data.find(b"GCOL", place + 4)


def _check_heap(data: mmap.mmap, start: int) -> None:
    end = start + int.from_bytes(data[start + 8 : start + _HEAD], "little")
    if not start + _HEAD <= end <= len(data):
        raise ValueError(f"The file is damaged: the heap at byte {start} reaches beyond it.")
    place = start + _HEAD
    while end - place >= _HEAD:
        number = int.from_bytes(data[place : place + 2], "little")
        size = int.from_bytes(data[place + 8 : place + _HEAD], "little")
        step = _HEAD + -(-size // 8) * 8 if number else size
        if not _HEAD <= step <= end - place:
            raise ValueError(f"The file is damaged: the heap at byte {start} does not add up.")
        place += step
