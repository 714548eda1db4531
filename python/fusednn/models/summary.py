"""The table that `Sequential.summary` prints, in Keras' format."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusednn.layers import Layer
    from fusednn.models.sequential import Sequential

_COLUMNS = ("Layer (type)", "Output Shape", "Param #")
_COLUMN_ENDS = (0.45, 0.80, 1.0)  # fractions of the line
_ALIGNMENT = "<<>^"
_NARROWEST = 4


def summary_table(
    model: Sequential,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> str:
    """Render layers, output shapes, parameter counts and totals as text.

    Parameters
    ----------
    model : Sequential
        Built or not; what is not known yet is shown as ``?`` and ``0 (unbuilt)``.
    line_length, positions, expand_nested, show_trainable, layer_range
        See `Sequential.summary`.
    """
    longest, columns = 88, list(_COLUMNS)
    ends = list(_COLUMN_ENDS if positions is None else positions)
    if show_trainable:
        longest += 12
        columns.append("Trainable")
        ends = [0.9 * end for end in ends] + [1.0]
    if len(ends) != len(columns):
        raise ValueError(
            f"`positions` must hold {len(_COLUMNS)} ends of columns. Received: {positions}"
        )
    if line_length is None:
        line_length = min(longest, shutil.get_terminal_size().columns - 4)
    widths = _column_widths(ends, max(line_length, 40))
    shapes = model.output_shapes()
    first, last = _range(model, layer_range)
    rows: list[tuple[str, ...]] = []
    for layer, shape in list(zip(model.layers, shapes, strict=True))[first:last]:
        rows += _rows(layer, shape, 0, expand_nested=expand_nested)
    if not show_trainable:
        rows = [row[:-1] for row in rows]
    middle = "┳╇┼┴"
    lines = [f'Model: "{model.name}"', _rule(widths, f"┏━{middle[0]}┓")]
    lines += _row(columns, widths, "┃")
    lines.append(_rule(widths, f"┡━{middle[1]}┩"))
    for i, row in enumerate(rows):
        if i:
            lines.append(_rule(widths, f"├─{middle[2]}┤"))
        lines += _row(row, widths, "│")
    lines.append(_rule(widths, f"└─{middle[3]}┘"))
    lines += _totals(model)
    return "\n".join(lines)


def _rows(
    layer: Any, shape: tuple[int | None, ...] | None, depth: int, *, expand_nested: bool
) -> list[tuple[str, ...]]:
    """Return the row of a layer, and those of the layers inside."""
    prefix = "   " * depth + "└ " if depth else ""
    trains = "-"
    if layer.weights:
        trains = "Y" if layer.trainable else "N"
    name = f"{prefix}{layer.name} ({type(layer).__name__})"
    rows: list[tuple[str, ...]] = [(name, _shape_text(shape), _count_text(layer), trains)]
    if expand_nested and hasattr(layer, "layers"):
        for inner, own in zip(layer.layers, layer.output_shapes(), strict=True):
            rows += _rows(inner, own, depth + 1, expand_nested=True)
    return rows


def _range(model: Sequential, names: Sequence[str] | None) -> tuple[int, int]:
    """Return the first layer that matches the first name, and what follows the last match."""
    if names is None:
        return 0, len(model.layers)
    if len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"`layer_range` must hold two names of layers. Received: layer_range={names!r}"
        )
    starts, ends = (
        [i for i, layer in enumerate(model.layers) if re.match(name, layer.name)] for name in names
    )
    if not starts or not ends:
        known = ", ".join(layer.name for layer in model.layers)
        raise ValueError(
            f"`layer_range` must hold names of layers: {known}. Received: layer_range={names!r}"
        )
    return min(min(starts), max(ends)), max(min(starts), max(ends)) + 1


def _totals(model: Sequential) -> list[str]:
    parts: list[list[Any]] = [model.trainable_weights, model.non_trainable_weights]
    optimizer = model.optimizer
    built = model.compiled and optimizer is not None and optimizer.built
    parts.append(list(optimizer.variables) if built and optimizer is not None else [])
    sizes = [(math.prod(v.shape), math.prod(v.shape) * v.dtype.itemsize) for p in parts for v in p]
    total = tuple(map(sum, zip(*sizes, strict=True))) if sizes else (0, 0)
    lines = [
        f" Total params: {total[0]:,} ({_memory_text(total[1])})",
        f" Trainable params: {_size_text(parts[0])}",
        f" Non-trainable params: {_size_text(parts[1])}",
    ]
    return [*lines, f" Optimizer params: {_size_text(parts[2])}"] if built else lines


def _column_widths(fractions: Sequence[float], line_length: int) -> list[int]:
    ends = [
        int(fraction * line_length) if fraction <= 1 else int(fraction) for fraction in fractions
    ]
    starts = [0, *ends[:-1]]
    widths = [end - start for start, end in zip(starts, ends, strict=True)]
    # The borders take their room where they do in Keras' tables, column after column.
    borders = len(widths) + 1
    for i in range(len(widths)):
        share = round(borders / (len(widths) - i))
        widths[i] -= share
        borders -= share
    if min(widths) < _NARROWEST:
        raise ValueError(
            f"`positions` must leave columns of {_NARROWEST} characters and more. "
            f"Received: {tuple(fractions)} of {line_length}"
        )
    return widths


def _rule(widths: Sequence[int], glyphs: str) -> str:
    left, line, middle, right = tuple(glyphs)
    return left + middle.join(line * width for width in widths) + right


def _row(texts: Iterable[str], widths: Sequence[int], border: str) -> list[str]:
    """One line, or several where a text is longer than its column."""
    cells = [_wrapped(text, width - 2) for text, width in zip(texts, widths, strict=True)]
    lines = []
    height = max(map(len, cells))
    if border == "┃":  # titles stand at the bottom
        cells = [[""] * (height - len(cell)) + cell for cell in cells]
    for i in range(height):
        parts = [cell[i] if i < len(cell) else "" for cell in cells]
        padded = [
            f" {part:{align}{width - 2}} "
            for part, width, align in zip(parts, widths, _ALIGNMENT, strict=False)
        ]
        lines.append(border + border.join(padded) + border)
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    pieces: list[str] = []
    while len(text) > width:
        space = text.rfind(" ", 0, width + 1)
        if space > 0:
            pieces.append(text[:space])
        else:  # a word that is too long
            space = text.find(" ") % (len(text) + 1)
            pieces.append(text[:space] if space <= width else text[: width - 1] + "…")
        text = text[space:].lstrip()
    return [*pieces, text] if text or not pieces else pieces


def _shape_text(shape: tuple[int | None, ...] | None) -> str:
    return "?" if shape is None else f"({', '.join(str(dim) for dim in shape)})"


def _count_text(layer: Layer) -> str:
    return f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"


def _size_text(variables: Sequence[Any]) -> str:
    counts = [math.prod(v.shape) for v in variables]
    nbytes = sum(n * v.dtype.itemsize for n, v in zip(counts, variables, strict=True))
    return f"{sum(counts):,} ({_memory_text(nbytes)})"


def _memory_text(nbytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if nbytes < 1024:
            return f"{nbytes:.2f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} PB"
