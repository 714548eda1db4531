"""Weights in the safetensors format: a JSON header, then the arrays' bytes; nothing to execute.

The layout is 8 bytes with the header's length; the header, which gives dtype, shape and place of
each array by name; the data, without gaps. https://github.com/huggingface/safetensors has it.
It has no checksum: ours is among the header's texts (`__metadata__`), where other readers pass over
it, and files without one are read all the same.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusednn.saving.atomic import replacing

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
}
_LARGEST_HEADER = 100 * 10**6  # bytes, as the format's own readers have it
_CRC = "fusednn_crc32"


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays, as a whole or not at all."""
    codes = {np.dtype(text): code for code, text in _DTYPES.items()}
    header: dict[str, Any] = {}
    place = 0
    for name, array in arrays.items():
        code = codes[array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype]
        header[name] = {
            "dtype": code,
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    parts = [
        np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        for array in arrays.values()
    ]
    text = _text({"__metadata__": {_CRC: _crc(header, *parts)}, **header})
    text += b" " * (-len(text) % 8)  # so that the data start on a boundary
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for part in parts:
            file.write(part.data)


def _text(header: Any) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def _crc(header: Any, *parts: Any) -> str:
    """Return the checksum of names, shapes, places and data."""
    crc = zlib.crc32(_text(header))
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def read_arrays(path: Path) -> dict[str, Array]:
    """Return all arrays of a file by name.

    Raises
    ------
    ValueError
        The file is damaged: lengths, places or shapes do not agree with each other, or the
        checksum is another one.
    """
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_LARGEST_HEADER, len(data) - 8):
        raise ValueError(f"{path} is no safetensors file: its header is longer than the file.")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path} is no safetensors file: its header is no dictionary.")
    texts = header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    if isinstance(texts, dict) and texts.get(_CRC, "") not in ("", _crc(header, body)):
        raise ValueError(f"{path} is damaged: its checksum is that of another file.")
    return {name: _array(name, about, body, path) for name, about in header.items()}


def _array(name: str, about: Any, body: memoryview, path: Path) -> Array:
    try:
        dtype = np.dtype(_DTYPES[about["dtype"]])
        shape = tuple(int(n) for n in about["shape"])
        start, stop = (int(n) for n in about["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has an entry for '{name}' that cannot be read: {error}") from None
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or not 0 <= start <= stop <= len(body) or stop - start != size:
        raise ValueError(
            f"{path} is damaged: the bytes of '{name}' do not make an array of shape {shape}."
        )
    return np.frombuffer(body[start:stop], dtype).reshape(shape)
