"""Layers whose arrays in a file do not fit: an error, or left out and told."""

from __future__ import annotations

from collections.abc import Callable

from fusednn.saving.arrays_in_hdf5 import Array, MismatchError


class Mismatches:
    """What became of the layers of one file that do not fit.

    Attributes
    ----------
    skipped : bool
        Whether such layers are left out; otherwise the first one is an error.
    found : list of str
        What was wrong with those left out.
    """

    def __init__(self, skipped: bool = False) -> None:
        self.skipped = skipped
        self.found: list[str] = []

    def arrays(self, count: int, read: Callable[[], list[Array]]) -> list[Array | None]:
        """Return what `read` returns for a layer of `count` variables; None for each left out."""
        try:
            return [*read()]
        except MismatchError as error:
            if not self.skipped:
                raise
            self.found.append(str(error))
            return [None] * count
