"""Tables of text for regression or classification: a target by name, categories, missing cells."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.compressed_file import open_maybe_gzip
from fusednn.datasets.csv_file import delimiter_of
from fusednn.datasets.random_split import Pairs, random_split

Array = NDArray[Any]

_LARGEST = float(np.finfo(np.float32).max)

#: Cells that hold nothing.
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")


def load_csv(
    path: str | os.PathLike[str],
    target: str,
    *,
    one_hot: Sequence[str] = (),
    missing: str = "raise",
    test_split: float = 0.2,
    seed: int = 113,
) -> Pairs:
    """Read a table with a header into ``(x_train, y_train), (x_test, y_test)``.

    Cells are separated by commas, semicolons or tabs; text is UTF-8; the file may be gzipped.

    Parameters
    ----------
    path
        The file.
    target
        Name of the column to predict.
    one_hot
        Names of columns that hold categories: each becomes a column for each category, 1 where the
        row has it and else 0, in alphabetical order in the place of its own.
    missing : {"raise", "drop", "median"}
        What is done with cells that are empty, or NA, NaN, null or ?: refuse them, leave their rows
        out, or put the median of the column's rows that go to the training set. A target is never
        filled in.
    test_split, seed
        The split, see `random_split`.

    Returns
    -------
    x_train, x_test : ndarray, float32, shape (n, features)
        The other columns, in their order, neither scaled nor shifted.
    y_train, y_test : ndarray, shape (n,)
        float32; int64 where all targets are whole numbers without a decimal point.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If the header lacks a column or names one twice; if a line has another number of cells; if
        a cell is no finite number, or missing (line, counted from 1, and column are named); if no
        rows are left, or an argument does not fit.
    """
    if missing not in ("raise", "drop", "median"):
        raise ValueError(
            f"`missing` must be 'raise', 'drop' or 'median'. Received: missing={missing!r}"
        )
    if isinstance(one_hot, str):
        raise TypeError(f"`one_hot` must be a list of names. Received: one_hot={one_hot!r}")
    table = _Table(os.fspath(path), target, tuple(one_hot), missing)
    x, y = table.features(), table.targets()
    # NaN stands for what is missing until it is known which rows the median is taken of.
    (x_train, y_train), (x_test, y_test) = random_split(x, y, test_split, seed)
    for column in np.flatnonzero(np.isnan(x).any(axis=0)):
        known = x_train[~np.isnan(x_train[:, column]), column]
        if not known.size:
            raise ValueError(
                f"{table.source}: a column has no median where all its cells are missing"
            )
        for part in (x_train, x_test):
            part[np.isnan(part[:, column]), column] = np.median(known)
    return (x_train, y_train), (x_test, y_test)


class _Table:
    """The rows of a file, as text, and their lines."""

    def __init__(self, source: str, target: str, one_hot: tuple[str, ...], missing: str) -> None:
        import csv

        self.source = source
        self._one_hot = one_hot
        self._missing = missing
        with open_maybe_gzip(source) as stream:
            delimiter = delimiter_of(stream.readline())
            stream.seek(0)
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            try:
                reader = csv.reader(text, delimiter=delimiter)
                rows = [(reader.line_num, [c.strip() for c in row]) for row in reader if row]
            except UnicodeDecodeError as error:
                raise ValueError(f"{source}: must be UTF-8 text ({error.reason})") from None
            except csv.Error as error:
                raise ValueError(f"{source}: not a table of text ({error})") from None
        if not rows:
            raise ValueError(f"{source}: the file is empty")
        self._names = rows.pop(0)[1]
        self._target = self._column(target)
        self._categories = [self._column(name) for name in one_hot]
        if self._target in self._categories:
            raise ValueError(
                f"{source}: the target cannot be among `one_hot`. Received: {target!r}"
            )
        for line, cells in rows:
            if len(cells) != len(self._names):
                raise ValueError(
                    f"{source}: line {line}: must have {len(self._names)} cells as the header has. "
                    f"Received: {len(cells)}"
                )
        self._rows = [row for row in rows if self._keep(*row)]
        if not self._rows:
            raise ValueError(f"{source}: holds no rows" + (" without gaps" if rows else ""))

    def features(self) -> Array:
        """Return all columns but the target's, float32; NaN where a cell is missing."""
        columns: list[Array] = []
        for i in range(len(self._names)):
            if i == self._target:
                continue
            if i in self._categories:
                cells = np.array([cells[i] for _, cells in self._rows])
                columns += [(cells == each).astype(np.float32) for each in np.unique(cells)]
            else:
                columns.append(self._numbers(i))
        if not columns:
            raise ValueError(f"{self.source}: must have a column beside the target. Received: none")
        return np.stack(columns, axis=1)

    def targets(self) -> Array:
        """Return the target's column."""
        try:
            return np.array([int(cells[self._target]) for _, cells in self._rows], np.int64)
        except (ValueError, OverflowError):
            return self._numbers(self._target)

    def _column(self, name: str) -> int:
        if self._names.count(name) != 1:
            raise ValueError(
                f"{self.source}: the header must name the column once. "
                f"Received: {name!r}, the header has {', '.join(map(repr, self._names))}"
            )
        return self._names.index(name)

    def _keep(self, line: int, cells: list[str]) -> bool:
        gaps = [i for i, cell in enumerate(cells) if cell.lower() in MISSING]
        if not gaps or (self._missing == "median" and self._fillable(gaps)):
            return True
        if self._missing == "drop":
            return False
        column = self._names[gaps[0]]
        advice = "drop' or missing='median" if self._missing == "raise" else "drop"
        raise ValueError(
            f"{self.source}: line {line}, column {gaps[0] + 1} ({column!r}): the cell is missing: "
            f"read with missing='{advice}'. Received: {cells[gaps[0]]!r}"
        )

    def _fillable(self, gaps: list[int]) -> bool:
        return not {self._target, *self._categories} & set(gaps)

    def _numbers(self, column: int) -> Array:
        values = np.empty(len(self._rows), np.float32)
        for i, (line, cells) in enumerate(self._rows):
            cell = cells[column]
            try:
                value = np.nan if cell.lower() in MISSING else float(cell)
            except ValueError:
                raise ValueError(
                    f"{self.source}: line {line}, column {column + 1} ({self._names[column]!r}): "
                    "must be a number; columns of categories are named in `one_hot`. "
                    f"Received: {cell!r}"
                ) from None
            if abs(value) > _LARGEST:
                raise ValueError(
                    f"{self.source}: line {line}, column {column + 1} ({self._names[column]!r}): "
                    f"must be finite in float32. Received: {cell!r}"
                )
            values[i] = value
        return values
