"""Reading IDX files, the format of MNIST and its relatives.

An IDX file is two zero bytes, a byte for the dtype, a byte for the rank r, r big-endian 32-bit
sizes, then the elements, big-endian, last index fastest. Source: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.compressed_file import open_maybe_gzip
from fusednn.datasets.labeled_data import LabeledData

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(path: str | os.PathLike[str]) -> bool:
    """Whether the file opens as an IDX file does (after decompression)."""
    with open_maybe_gzip(path) as stream:
        head = stream.read(4)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _DTYPES and head[3] > 0


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one IDX file, plain or gzipped, into an array in the machine's byte order.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not an IDX file, or holds fewer or more bytes than its header says.
    """
    source = os.fspath(path)
    with open_maybe_gzip(path) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or head[3] == 0:
            raise ValueError(
                f"{source}: not an IDX file: must open with 00 00, a dtype and a rank. "
                f"Received: {head.hex(' ') or 'an empty file'}"
            )
        rank = head[3]
        sizes = stream.read(4 * rank)
        if len(sizes) < 4 * rank:
            raise ValueError(f"{source}: truncated inside its header")
        shape = tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
        dtype = np.dtype(_DTYPES[head[2]])
        expected = math.prod(shape) * dtype.itemsize
        # In pieces: a header may promise more than the memory that the file's true content needs.
        content = bytearray()
        while piece := stream.read(min(expected + 1 - len(content), 1 << 24)):
            content += piece
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        received = len(content) if len(content) < expected else "more"
        raise ValueError(
            f"{source}: {state}: its header says {'x'.join(map(str, shape))} elements of "
            f"{dtype.itemsize} bytes, {expected} bytes. Received: {received}"
        )
    return (
        np.frombuffer(content, dtype=dtype)
        .reshape(shape)
        .astype(dtype.newbyteorder("="), copy=False)
    )


def read_idx_pair(path: str | os.PathLike[str]) -> LabeledData:
    """Read images and labels from MNIST-style IDX files.

    Parameters
    ----------
    path
        A file of images: the labels stand beside it under the same name with "labels" for "images"
        and "idx1" for "idx3". Or a folder with such a pair, and perhaps a second one for testing,
        whose names hold "t10k" or "test". Each file may be gzipped; where the plain file and the
        .gz both stand there, the plain one is read.

    Raises
    ------
    OSError
        If a file cannot be opened.
    ValueError
        If a pair is incomplete or ambiguous, or a file malformed.
    """
    path = Path(path)
    if not path.is_dir():
        train, test = path, None
    else:
        train, test = _images_in(path)
    names = [train.name, _labels_beside(train).name]
    pairs = [(read_idx(train), read_idx(_labels_beside(train)))]
    if test is not None:
        names += [test.name, _labels_beside(test).name]
        pairs.append((read_idx(test), read_idx(_labels_beside(test))))
    return LabeledData.from_arrays(
        str(path),
        pairs[0],
        pairs[1] if test is not None else None,
        names=names,
        pixel_max=255.0 if pairs[0][0].dtype == np.uint8 else None,
    )


def _images_in(folder: Path) -> tuple[Path, Path | None]:
    """Return the training images and the test images (None if there are none) of a folder."""
    files = {
        file.name: file
        for file in sorted(folder.iterdir())
        if re.search(r"images.idx\d", file.name) and file.is_file()
    }
    images = [
        file
        for name, file in files.items()
        if not (name.endswith(".gz") and name.removesuffix(".gz") in files)
    ]
    for_test = [file for file in images if re.search(r"t10k|test", file.name)]
    for_training = [file for file in images if file not in for_test]
    if len(for_training) != 1 or len(for_test) > 1:
        found = ", ".join(file.name for file in images) or "no file *images-idx3*"
        raise ValueError(
            f"{folder}: must hold one IDX file of training images (as train-images-idx3-ubyte) and "
            f"at most one for testing (t10k-images-idx3-ubyte). Received: {found}"
        )
    return for_training[0], for_test[0] if for_test else None


def _labels_beside(images: Path) -> Path:
    """Return the labels' file that belongs to a file of images."""
    plain = images.name.removesuffix(".gz")
    name = re.sub(r"idx\d", "idx1", plain.replace("images", "labels"))
    if "images" not in plain:
        raise ValueError(
            f'{images}: the name of an IDX file must hold "images", so that its labels can be '
            'found beside it under the same name with "labels"'
        )
    for candidate in (images.with_name(name), images.with_name(name + ".gz")):
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"{images}: its labels must stand beside it as {name} or {name}.gz. Found: neither"
    )
