"""Reading tables of numbers with a column of labels from .csv files."""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.datasets.compressed_file import open_maybe_gzip
from fusednn.datasets.labeled_data import LabeledData


def read_csv(
    path: str | os.PathLike[str],
    *,
    label: str | int | None = None,
    header: bool | None = None,
) -> LabeledData:
    """Read a table whose columns are features, numbers, and one label.

    Cells are separated by commas, semicolons or tabs (whichever the first line holds most of); text
    is UTF-8; the file may be gzipped; blank lines are skipped. Labels are integers (or whole
    numbers such as 1.0) if all of them are, otherwise strings, stripped of surrounding blanks.

    Parameters
    ----------
    label
        The label's column: its name in the header, or its position as Python counts. None: the
        last.
    header
        Whether the first line holds the columns' names. None: it does if `label` is a name, or if
        none of its cells, the label's aside, is a number.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If a line has another number of cells than the first, if a feature is not a finite
        number or a label is empty (line, counted from 1, and column are named), if there is no such
        label column, or if no rows or no features are there.
    """
    import csv

    source = os.fspath(path)
    with open_maybe_gzip(path) as stream:
        delimiter = delimiter_of(stream.readline())
        stream.seek(0)
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        try:
            table = _Table(source, csv.reader(text, delimiter=delimiter), label, header)
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}: must be UTF-8 text ({error.reason})") from None
        except csv.Error as error:
            raise ValueError(f"{source}: not a table of comma-separated values ({error})") from None
    return LabeledData.from_arrays(
        source, (table.features(), table.labels()), names=("features", "labels")
    )


class _Table:
    """The cells of a table, converted; knows the line and column of each for error messages."""

    def __init__(
        self, source: str, reader: Any, label: str | int | None, header: bool | None
    ) -> None:
        self.source = source
        self.lines = array("q")
        self.values = array("f")
        self.label_cells: list[str] = []
        rows: Iterator[list[str]] = (row for row in reader if row)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{source}: the file is empty")
        self.width = len(first)
        self.names: list[str] = []
        self.label_column = self._find_label(first, label, header)
        if self.width < 2:
            raise ValueError(
                f"{source}: must have two columns or more, features and a label. "
                f"Received: {self.width}"
            )
        if header is None:
            header = isinstance(label, str) or self._names_columns(first)
        if header:
            self.names = [name.strip() for name in first]
        else:
            self._append(reader.line_num, first)
        for row in rows:
            self._append(reader.line_num, row)
        if not self.lines:
            raise ValueError(f"{source}: holds a header but no rows")

    def features(self) -> NDArray[Any]:
        """Return the features, float32, shape (rows, columns - 1)."""
        x = np.frombuffer(self.values, dtype=np.float32).reshape(len(self.lines), self.width - 1)
        if not np.isfinite(x).all():
            row, feature = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
            column = feature + (feature >= self.label_column)
            place = self._place(self.lines[row], column)
            raise ValueError(
                f"{self.source}: {place}: must be finite in float32. Received: {x[row, feature]}"
            )
        return x

    def labels(self) -> NDArray[Any]:
        """Return the labels: integers, else floating-point numbers, else strings."""
        for convert, dtype in ((int, np.int64), (float, np.float64)):
            try:
                return np.array([convert(cell) for cell in self.label_cells], dtype=dtype)
            except (ValueError, OverflowError):
                continue
        return np.array(self.label_cells)

    def _append(self, line: int, cells: list[str]) -> None:
        if len(cells) != self.width:
            raise ValueError(
                f"{self.source}: line {line}: must have {self.width} cells as the first line has. "
                f"Received: {len(cells)}"
            )
        name = cells.pop(self.label_column).strip()
        if not name:
            raise ValueError(
                f"{self.source}: {self._place(line, self.label_column)}: the label is empty"
            )
        try:
            self.values.extend(map(float, cells))
        except ValueError:
            cells.insert(self.label_column, name)
            column = next(
                i for i, cell in enumerate(cells) if i != self.label_column and not _is_number(cell)
            )
            place = self._place(line, column)
            raise ValueError(
                f"{self.source}: {place}: must be a number. Received: {cells[column]!r}"
            ) from None
        self.lines.append(line)
        self.label_cells.append(name)

    def _find_label(self, first: list[str], label: str | int | None, header: bool | None) -> int:
        """Return the label's column, from 0."""
        if isinstance(label, str):
            names = [name.strip() for name in first]
            if header is False:
                raise ValueError(
                    f"{self.source}: without a header the label's column must be a number. "
                    f"Received: {label!r}"
                )
            if names.count(label) != 1:
                raise ValueError(
                    f"{self.source}: the header must name the label's column once. "
                    f"Received: {label!r}, the header has {', '.join(map(repr, names))}"
                )
            return names.index(label)
        column = -1 if label is None else label
        if not -self.width <= column < self.width:
            raise ValueError(
                f"{self.source}: the label's position must be in [-{self.width}, {self.width}). "
                f"Received: {column}"
            )
        return column % self.width

    def _names_columns(self, first: list[str]) -> bool:
        return not any(_is_number(cell) for i, cell in enumerate(first) if i != self.label_column)

    def _place(self, line: int, column: int) -> str:
        name = f" ({self.names[column]!r})" if self.names else ""
        return f"line {line}, column {column + 1}{name}"


def delimiter_of(first_line: bytes) -> str:
    """Return the separator that occurs most often in the first line, a comma when in doubt."""
    return max(",;\t", key=lambda separator: first_line.count(separator.encode()))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
