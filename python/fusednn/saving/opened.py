"""Files of models, opened with one kind of error for all that their content causes."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

PathLike = str | os.PathLike[str]

#: Most that a compressed entry of a `.keras` file may grow by; HDF5 files hardly shrink.
_LARGEST_RATIO = 200
#: What readers of JSON, archives and HDF5, and constructors, raise on what they do not expect.
OF_CONTENT = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    struct.error,
    zlib.error,
)


def file_to_write(filepath: PathLike, endings: tuple[str, ...], overwrite: bool) -> Path:
    """Return the path of a file that may be written, or raise an error that names `filepath`."""
    target = Path(filepath)
    if target.suffix not in endings:
        raise ValueError(
            f"`filepath` must end with {' or '.join(endings)}. Received: filepath={target}"
        )
    if target.exists() and not overwrite:
        raise FileExistsError(
            f"`filepath` exists and `overwrite` is False. Received: filepath={target}"
        )
    return target


def file_to_read(filepath: PathLike) -> Path:
    """Return the path of a file that is there, or raise an error that names `filepath`."""
    source = Path(filepath)
    if not source.is_file():
        raise FileNotFoundError(f"`filepath` must be a file. Received: filepath={source}")
    return source


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Make one kind of error, which names the file, or an argument, of all its content causes."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except OF_CONTENT as error:
        raise ValueError(
            f"{path} cannot be read, it is damaged or of another kind: "
            f"{type(error).__name__}: {error}"
        ) from error


def is_archive(path: Path) -> bool:
    """Return whether the file is a zip archive; raise ValueError where it only begins as one."""
    if zipfile.is_zipfile(path):
        return True
    with path.open("rb") as file:
        cut = file.read(4) == b"PK\x03\x04"
    if cut:
        raise ValueError("The file begins as a zip archive and has no end of one: it was cut off.")
    return False


def archive_entry(archive: zipfile.ZipFile, name: str, largest: int | None) -> bytes:
    """Return an entry that has at most `largest` bytes; None: that did not grow much."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"The file is no model of Keras: it has no {name}.") from None
    limit = info.compress_size * _LARGEST_RATIO if largest is None else largest
    if info.file_size > limit:
        raise ValueError(
            f"{name} in the file must have at most {limit} bytes. Received: {info.file_size}"
        )
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{name} in the file has another size than it says: it is damaged.")
    return data
