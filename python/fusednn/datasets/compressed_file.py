"""Opening a file that may be gzipped."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_maybe_gzip(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for reading bytes, decompressed if its content is gzip, whatever its name.

    Damage that decompression finds inside the ``with`` block becomes a `ValueError` that names the
    file.
    """
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not compressed:
            yield file
            return
        import gzip

        try:
            with gzip.open(file, "rb") as stream:
                yield cast(BinaryIO, stream)
        except EOFError:
            raise ValueError(f"{os.fspath(path)}: the gzip data is truncated") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{os.fspath(path)}: the gzip data is damaged ({error})") from None
