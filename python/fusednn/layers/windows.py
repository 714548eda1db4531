"""Windows that slide over images: where they lie, and the parts of an array that they see.

A window of (height, width) at every stride of an image (batch, rows, columns, channels) is handled
as its height * width elements: for each there is one strided view of the padded image, of the shape
of the output, which holds that element of every window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn.devices import CPU, Device
from fusednn.layers.image_axes import channels_last, check_image, in_format
from fusednn.layers.layer import BatchShape
from fusednn.layers.step import Array


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Return two positive integers, from one or two."""
    given = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(given) != 2 or any(
        isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in given
    ):
        raise ValueError(
            f"`{name}` must be one or two positive integers. Received: {name}={value!r}"
        )
    return int(given[0]), int(given[1])


def check_padding(padding: str) -> str:
    """Return `padding` in lower case, or raise ValueError."""
    if not isinstance(padding, str) or padding.lower() not in ("valid", "same"):
        raise ValueError(f"`padding` must be 'valid' or 'same'. Received: padding={padding!r}")
    return padding.lower()


@dataclass(frozen=True)
class Windows:
    """The geometry of windows, without that of an image.

    Attributes
    ----------
    size, strides, dilation : (int, int)
        Of rows and columns; the elements of a window are `dilation` apart.
    padding : {"valid", "same"}
        Only windows within the image; or ``ceil(length / stride)`` windows, centred over an image
        with a margin, as TensorFlow does it: the larger half of it at the end.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str
    dilation: tuple[int, int] = (1, 1)

    def _span(self, axis: int) -> int:
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def count(self, length: int, axis: int) -> int:
        """Return the number of windows along an axis of an image."""
        if self.padding == "same":
            return -(-length // self.strides[axis])
        return max(0, (length - self._span(axis)) // self.strides[axis] + 1)

    def margin(self, length: int, axis: int) -> tuple[int, int]:
        """Return what is padded before and after an axis of an image."""
        covered = (self.count(length, axis) - 1) * self.strides[axis] + self._span(axis)
        missing = max(0, covered - length)
        return missing // 2, missing - missing // 2

    def output_shape(
        self,
        name: str,
        input_shape: BatchShape,
        channels: int | None,
        data_format: str = "channels_last",
    ) -> BatchShape:
        """Shape of the output of layer `name`: one element for each window and channel."""
        check_image(name, input_shape, data_format)
        batch, *image, _ = channels_last(input_shape, data_format)
        counts = [None if n is None else self.count(n, axis) for axis, n in enumerate(image)]
        if 0 in counts:
            raise ValueError(
                f"The windows of layer '{name}', of {self._span(0)} x {self._span(1)}, must fit in "
                f"its input. Received: input_shape={input_shape}"
            )
        return in_format((batch, counts[0], counts[1], channels), data_format)

    def on(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], fill: float, device: Device = CPU
    ) -> PaddedImages:
        """Return the windows over images of this shape, with memory for their margin."""
        return PaddedImages(self, shape, dtype, fill, device)


class PaddedImages:
    """Images with the margin that windows need, and each element of all windows as a view."""

    def __init__(
        self,
        windows: Windows,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fill: float,
        device: Device,
    ) -> None:
        self._windows = windows
        batch, rows, columns, channels = shape
        (top, bottom), (left, right) = (
            windows.margin(n, axis) for axis, n in ((0, rows), (1, columns))
        )
        self._counts = windows.count(rows, 0), windows.count(columns, 1)
        self._padded: Array | None = None
        if top or bottom or left or right:
            padded_shape = (batch, rows + top + bottom, columns + left + right, channels)
            self._padded = device.full(padded_shape, fill, dtype)
            self._inner = self._padded[:, top : top + rows, left : left + columns]

    def fill(self, x: Array) -> Array:
        """Return `x` with its margin; without one, `x` itself."""
        if self._padded is None:
            return x
        np.copyto(self._inner, x)
        return self._padded

    def empty_like(self, out: Array) -> Array:
        """Return memory for a sum over windows: `out` itself where there is no margin."""
        return out if self._padded is None else self._padded

    def inner(self, out: Array) -> Array:
        """Return what `empty_like` gave, without its margin, in `out`."""
        if self._padded is not None:
            np.copyto(out, self._inner)
        return out

    def elements(self, padded: Array) -> Iterator[Array]:
        """Yield the view of each element of the windows, row by row."""
        (height, width), (down, right) = self._windows.size, self._windows.strides
        for i in range(height):
            top = i * self._windows.dilation[0]
            for j in range(width):
                left = j * self._windows.dilation[1]
                yield padded[
                    :,
                    top : top + (self._counts[0] - 1) * down + 1 : down,
                    left : left + (self._counts[1] - 1) * right + 1 : right,
                ]
