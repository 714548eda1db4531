"""The table that `Sequential.summary` prints, in Keras' format."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fusednn.variable import Variable

if TYPE_CHECKING:
    from fusednn.layers import Layer
    from fusednn.models.sequential import Sequential

_COLUMNS = ("Layer (type)", "Output Shape", "Param #")
_COLUMN_ENDS = (0.45, 0.80, 1.0)  # fractions of the line


def summary_table(model: Sequential, line_length: int | None = None) -> str:
    """Render layers, output shapes, parameter counts and totals as text.

    Parameters
    ----------
    model : Sequential
        Built or not; what is not known yet is shown as ``?`` and ``0 (unbuilt)``.
    line_length : int, optional
        Width in characters, at least 40; what the terminal leaves, up to 88, if not given.
    """
    if line_length is None:
        line_length = min(88, shutil.get_terminal_size().columns - 4)
    widths = _column_widths(max(line_length, 40))
    rows = [
        (f"{layer.name} ({type(layer).__name__})", _shape_text(shape), _count_text(layer))
        for layer, shape in zip(model.layers, model.output_shapes(), strict=True)
    ]
    lines = [f'Model: "{model.name}"', _rule(widths, "┏━┳┓")]
    lines += _row(_COLUMNS, widths, "┃")
    lines.append(_rule(widths, "┡━╇┩"))
    for i, row in enumerate(rows):
        if i:
            lines.append(_rule(widths, "├─┼┤"))
        lines += _row(row, widths, "│")
    lines.append(_rule(widths, "└─┴┘"))
    lines.append(f" Total params: {_size_text(model.weights)}")
    lines.append(f" Trainable params: {_size_text(model.trainable_weights)}")
    lines.append(f" Non-trainable params: {_size_text(model.non_trainable_weights)}")
    return "\n".join(lines)


def _column_widths(line_length: int) -> list[int]:
    ends = [int(fraction * line_length) for fraction in _COLUMN_ENDS]
    starts = [0, *ends[:-1]]
    # The four borders take their room where they do in Keras' tables: 1, 2 and 1 from the columns.
    return [end - start - b for start, end, b in zip(starts, ends, (1, 2, 1), strict=True)]


def _rule(widths: Sequence[int], glyphs: str) -> str:
    left, line, middle, right = tuple(glyphs)
    return left + middle.join(line * width for width in widths) + right


def _row(texts: Iterable[str], widths: Sequence[int], border: str) -> list[str]:
    """One line, or several where a text is longer than its column."""
    cells = [_wrapped(text, width - 2) for text, width in zip(texts, widths, strict=True)]
    lines = []
    for i in range(max(map(len, cells))):
        parts = [cell[i] if i < len(cell) else "" for cell in cells]
        *left, count = zip(parts, widths, strict=True)
        padded = [f" {text:<{width - 2}} " for text, width in left]
        padded.append(f" {count[0]:>{count[1] - 2}} ")
        lines.append(border + border.join(padded) + border)
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    pieces: list[str] = []
    while len(text) > width:
        space = text.rfind(" ", 0, width + 1)
        cut = space if space > 0 else width
        pieces.append(text[:cut])
        text = text[cut:].lstrip()
    return [*pieces, text]


def _shape_text(shape: tuple[int | None, ...] | None) -> str:
    return "?" if shape is None else f"({', '.join(str(dim) for dim in shape)})"


def _count_text(layer: Layer) -> str:
    return f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"


def _size_text(variables: Sequence[Variable]) -> str:
    count = sum(math.prod(v.shape) for v in variables)
    return f"{count:,} ({_memory_text(sum(v.value.nbytes for v in variables))})"


def _memory_text(nbytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if nbytes < 1024:
            return f"{nbytes:.2f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} PB"
