"""Finding the original files of well-known data sets, which this package does not download."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OriginalFiles:
    """Where a data set's files are looked for, and where they come from.

    Attributes
    ----------
    name : str
        Of the data set.
    usual : tuple of str
        Files and folders in the cache of Keras that hold it.
    other : tuple of str
        Further places.
    sources : tuple of str
        Addresses to get it from.
    """

    name: str
    usual: tuple[str, ...]
    sources: tuple[str, ...]
    other: tuple[str, ...] = ()

    def find(self, path: str | os.PathLike[str] | None) -> Path:
        """Return the file or folder: `path`, there or in Keras' cache; None: where it usually is.

        Raises
        ------
        FileNotFoundError
            If it is at none of these places. All are named, and where to get it.
        """
        cache = _keras_cache()
        if path is None:
            places = [*(cache / name for name in self.usual), *map(Path, self.other)]
        else:
            places = [Path(path)]
            if not places[0].is_absolute():
                places.append(cache / path)
        for place in places:
            if place.exists():
                return place
        raise FileNotFoundError(
            f"{self.name} is not there, and is not downloaded. Looked for: "
            f"{', '.join(map(str, places))}. Get it from {' or '.join(self.sources)} and give its "
            "file or folder as `path`"
        )


def one_of(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the files that is in a folder, or None."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _keras_cache() -> Path:
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets"
