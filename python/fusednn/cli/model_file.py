"""The option ``--save``: the trained model as a file."""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

_ENDINGS = (".keras", ".h5")


def add_option(group: argparse._ArgumentGroup) -> None:
    """Add ``--save``."""
    group.add_argument(
        "--save",
        metavar="FILE",
        help="write the trained model to a file that Keras reads, too, as model.keras (needs h5py)",
    )


def check(path: str | os.PathLike[str] | None) -> None:
    """Find out, before the work, what would keep the model from being written; None is fine.

    Raises
    ------
    ModuleNotFoundError
        If h5py is not installed.
    ValueError
        If the file's ending is none of a model's, or its folder does not exist.
    """
    if path is None:
        return
    path = Path(path)
    if path.suffix not in _ENDINGS:
        raise ValueError(f"{path}: the model's ending must be one of {', '.join(_ENDINGS)}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the model's folder must exist")
    if find_spec("h5py") is None:
        raise ModuleNotFoundError(
            "--save writes with h5py, which is not installed: pip install h5py", name="h5py"
        )
