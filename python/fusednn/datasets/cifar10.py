"""CIFAR-10, 60,000 colour pictures of 32 x 32 pixels, from the files that the user has.

The binary version holds, for each picture, a byte for its class and 3072 for its pixels: red, green
and blue, each row after row. The version for Python is pickled: reading it would run whatever
program it holds, hence it is not read.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.labeled_data import LabeledData
from fusednn.datasets.original_files import OriginalFiles

Array = NDArray[Any]

#: Names of the classes, by their numbers.
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"
_RECORD = 1 + 3 * 32 * 32
_MOST_BYTES = 10_000 * _RECORD  # of a file

_FILES = OriginalFiles(
    "CIFAR-10",
    usual=("cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
    sources=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)


def load_data(
    path: str | os.PathLike[str] | None = None,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return ``(x_train, y_train), (x_test, y_test)``, as Keras' function of this name.

    Parameters
    ----------
    path
        The folder ``cifar-10-batches-bin`` of the binary version, or its ``.tar.gz``. A relative
        path is looked for in ``~/.keras/datasets``, too (``KERAS_HOME`` is heeded). None: what is
        there. (Keras downloads the version for Python, and has no such argument.)

    Returns
    -------
    x_train, x_test : ndarray, uint8, shape (n, 32, 32, 3)
        Pixels 0 ... 255; of the original, n is 50,000 and 10,000.
    y_train, y_test : ndarray, uint8, shape (n, 1)
        Numbers in `CLASSES`.

    Raises
    ------
    FileNotFoundError
        If the files are not there; where they were looked for, and come from, is named.
    ValueError
        If a file is missing, truncated, damaged, or of the version for Python.
    """
    place = _FILES.find(path)
    if place.is_dir():
        pictures = [_from_folder(place, name) for name in (*_TRAIN, _TEST)]
    else:
        pictures = _from_archive(place)
    *train, test = pictures
    records = np.concatenate(train)
    return _split(records), _split(test)


def load(path: str | os.PathLike[str] | None = None) -> LabeledData:
    """Return the same as `LabeledData`."""
    train, test = load_data(path)
    data = LabeledData.from_arrays("CIFAR-10", train, test, pixel_max=255.0)
    return replace(data, classes=tuple(CLASSES[int(label)] for label in data.classes))


def is_cifar10(path: Path) -> bool:
    """Whether a folder holds files of either version, or a file is named as an archive of one."""
    if path.is_dir():
        return any((path / name).is_file() for name in (*_TRAIN, _TRAIN[0].removesuffix(".bin")))
    return path.name.startswith("cifar-10-") and path.name.endswith((".tar.gz", ".tgz", ".tar"))


def _split(records: Array) -> tuple[Array, Array]:
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, :1].copy()


def _from_folder(folder: Path, name: str) -> Array:
    file = folder / name
    if not file.is_file():
        if (folder / name.removesuffix(".bin")).is_file():
            raise _pickled(folder)
        raise ValueError(f"{folder}: must hold the files of CIFAR-10. Missing: {name}")
    with file.open("rb") as stream:
        return _records(str(file), stream.read)


def _from_archive(path: Path) -> list[Array]:
    import tarfile

    found: dict[str, Array] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = Path(member.name).name
                if name in (*_TRAIN, _TEST) and member.isfile():
                    stream: IO[bytes] | None = archive.extractfile(member)
                    assert stream is not None
                    found[name] = _records(f"{path}: {name}", stream.read)
                elif f"{name}.bin" in (*_TRAIN, _TEST):
                    raise _pickled(path)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, (FileNotFoundError, PermissionError)):
            raise
        raise ValueError(f"{path}: not an archive of CIFAR-10, or damaged ({error})") from None
    missing = [name for name in (*_TRAIN, _TEST) if name not in found]
    if missing:
        raise ValueError(f"{path}: must hold the files of CIFAR-10. Missing: {missing[0]}")
    return [found[name] for name in (*_TRAIN, _TEST)]


def _records(source: str, read: Callable[[int], bytes]) -> Array:
    content = read(_MOST_BYTES + 1)
    if not content or len(content) % _RECORD or len(content) > _MOST_BYTES:
        received = len(content) if len(content) <= _MOST_BYTES else "more"
        raise ValueError(
            f"{source}: must hold up to 10,000 pictures of {_RECORD} bytes. "
            f"Received: {received} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0]
    if labels.max() > 9:
        place = int(labels.argmax())
        raise ValueError(
            f"{source}: the class of a picture must be 0 ... 9. "
            f"Received: {labels[place]} at picture {place}"
        )
    return records


def _pickled(path: Path) -> ValueError:
    return ValueError(
        f"{path}: this is CIFAR-10 for Python, pickled, which could run any program when it is "
        f"read. Get the binary version instead, {_FILES.sources[0]}"
    )
