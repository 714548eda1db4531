"""What the cases are about: layouts, lists of arrays, models; each also in a small form.

The small form of a subject, ``NAME:small``, has its structure (layout, order of sizes, number of
layers) and hardly any elements: for checking answers, not for timing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]

#: Bytes of an element.
ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
#: At the end of the name of a small form.
SMALL = ":small"


@dataclass(frozen=True)
class Layout:
    """An activation's shape in the order of its memory, and where its channels are."""

    shape: Shape
    channel_axis: int

    @property
    def channels(self) -> int:
        """Length of the channel axis."""
        return self.shape[self.channel_axis]

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes that statistics go over."""
        return tuple(axis for axis in range(len(self.shape)) if axis != self.channel_axis)

    def per_channel(self) -> Shape:
        """Shape that broadcasts a vector over the channels."""
        return tuple(n if i == self.channel_axis else 1 for i, n in enumerate(self.shape))


def _images(shape: Shape, small: Shape) -> dict[str, Layout]:
    """Return an image's layouts; `shape` and `small` are (N, C, H, W)."""
    layouts = {}
    n, c, h, w = shape
    for suffix, (n_, c_, h_, w_) in (("", shape), (SMALL, small)):
        layouts[f"nchw-{n}x{c}x{h}x{w}{suffix}"] = Layout((n_, c_, h_, w_), 1)
        layouts[f"nhwc-{n}x{h}x{w}x{c}{suffix}"] = Layout((n_, h_, w_, c_), 3)
    return layouts


def _rows(shape: Shape, small: Shape) -> dict[str, Layout]:
    name = f"nc-{shape[0]}x{shape[1]}"
    return {name: Layout(shape, 1), f"{name}{SMALL}": Layout(small, 1)}


LAYOUTS: dict[str, Layout] = (
    _images((32, 64, 112, 112), small=(4, 8, 14, 14))
    | _images((32, 256, 56, 56), small=(4, 32, 7, 7))
    | _images((32, 256, 14, 14), small=(4, 32, 3, 3))
    | _rows((32, 100), small=(32, 100))
    | _rows((256, 1024), small=(64, 128))
    | _rows((8192, 1024), small=(512, 64))
    | _rows((65536, 256), small=(2048, 16))
    | _rows((32, 65536), small=(8, 2048))
    | _rows((64, 32768), small=(16, 1024))
    | _rows((8, 262_144), small=(4, 4096))
    | _rows((2, 1_048_576), small=(2, 16_384))
)


def _resnet50(stem: int, stages: tuple[tuple[int, int], ...], classes: int) -> list[Shape]:
    """Parameters of ResNet (He et al. 2016) of bottleneck blocks; `stages`: width, blocks."""

    def convolution(outputs: int, inputs: int, size: int) -> list[Shape]:
        return [(outputs, inputs, size, size), (outputs,), (outputs,)]

    shapes = convolution(stem, 3, 7)
    inputs = stem
    for width, blocks in stages:
        for block in range(blocks):
            shapes += convolution(width, inputs, 1)
            shapes += convolution(width, width, 3)
            shapes += convolution(4 * width, width, 1)
            if block == 0:
                shapes += convolution(4 * width, inputs, 1)
            inputs = 4 * width
    return [*shapes, (classes, inputs), (classes,)]


LISTS: dict[str, list[Shape]] = {
    "2x16M": [(1 << 24,)] * 2,
    "2x4M": [(1 << 22,)] * 2,
    # 161 arrays, 25.6 million numbers.
    "resnet50": _resnet50(64, ((64, 3), (128, 4), (256, 6), (512, 3)), 1000),
    "100x100x100": [(100, 100), (100,)] * 100,
    "500x32": [(32,)] * 500,
    "100x32": [(32,)] * 100,
    "1x1k": [(1024,)],
}
LISTS |= {
    f"2x16M{SMALL}": [(1 << 14,)] * 2,
    f"2x4M{SMALL}": [(1 << 13,)] * 2,
    f"resnet50{SMALL}": _resnet50(4, ((4, 1), (8, 1)), 10),
    f"100x100x100{SMALL}": [(40, 40), (40,)] * 5,
    f"500x32{SMALL}": [(32,)] * 25,
    f"100x32{SMALL}": [(32,)] * 5,
    f"1x1k{SMALL}": [(1024,)],
}


@dataclass(frozen=True)
class Model:
    """A stack of Dense + BatchNorm + leaky ReLU, a Dense at the end, and the batch it is fed."""

    widths: tuple[int, ...]
    batch: int

    @property
    def products(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each Dense layer."""
        return list(zip(self.widths[:-1], self.widths[1:], strict=True))


MODELS: dict[str, Model] = {
    "784-300-100-10-batch32": Model((784, 300, 100, 10), 32),
    "784-300-100-10-batch256": Model((784, 300, 100, 10), 256),
    "3072-20x100-10-batch32": Model((3072, *[100] * 20, 10), 32),
    "784-4x1024-10-batch256": Model((784, *[1024] * 4, 10), 256),
}
MODELS |= {
    f"784-300-100-10-batch32{SMALL}": Model((784, 30, 10, 10), 32),
    f"784-300-100-10-batch256{SMALL}": Model((784, 30, 10, 10), 256),
    f"3072-20x100-10-batch32{SMALL}": Model((3072, *[32] * 20, 10), 32),
    f"784-4x1024-10-batch256{SMALL}": Model((784, *[64] * 4, 10), 256),
}


def full_size(subjects: Iterable[str]) -> list[str]:
    """Return the names that are no small forms."""
    return [name for name in subjects if not name.endswith(SMALL)]


#: Slope of every leaky ReLU, and what is added to every variance.
NEGATIVE_SLOPE = 0.1
EPS = 1e-5
#: Of BatchNorm, as PyTorch means it.
MOMENTUM = 0.1
STEP_LEARNING_RATE = 0.001


def size_of(shapes: list[Shape]) -> int:
    """Count the elements of a list of arrays."""
    return sum(prod(shape) for shape in shapes)
