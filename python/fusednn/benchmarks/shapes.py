"""What the cases are about: layouts, lists of arrays, models, optimizers with their options."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

Shape = tuple[int, ...]

#: Bytes of an element.
ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float64": 8}


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


def _images(*shape: int) -> dict[str, Layout]:
    n, c, h, w = shape
    return {
        f"nchw-{n}x{c}x{h}x{w}": Layout((n, c, h, w), 1),
        f"nhwc-{n}x{h}x{w}x{c}": Layout((n, h, w, c), 3),
    }


def _rows(n: int, c: int) -> dict[str, Layout]:
    return {f"nc-{n}x{c}": Layout((n, c), 1)}


LAYOUTS: dict[str, Layout] = (
    _images(32, 64, 112, 112)
    | _images(32, 256, 56, 56)
    | _images(32, 256, 14, 14)
    | _rows(32, 100)
    | _rows(256, 1024)
    | _rows(8192, 1024)
    | _rows(65536, 256)
)


def _resnet50() -> list[Shape]:
    """Parameters of ResNet-50 (He et al. 2016): 161 arrays, 25.6 million numbers."""

    def convolution(outputs: int, inputs: int, size: int) -> list[Shape]:
        return [(outputs, inputs, size, size), (outputs,), (outputs,)]

    shapes = convolution(64, 3, 7)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += convolution(width, inputs, 1)
            shapes += convolution(width, width, 3)
            shapes += convolution(4 * width, width, 1)
            if block == 0:
                shapes += convolution(4 * width, inputs, 1)
            inputs = 4 * width
    return [*shapes, (1000, inputs), (1000,)]


LISTS: dict[str, list[Shape]] = {
    "2x16M": [(1 << 24,)] * 2,
    "resnet50": _resnet50(),
    "100x100x100": [(100, 100), (100,)] * 100,
    "500x32": [(32,)] * 500,
    "1x1k": [(1024,)],
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


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with options, in PyTorch's formula.

    Attributes
    ----------
    kind : str
        "sgd", "adagrad", "rmsprop" or "adam".
    states : tuple of str
        Its states, as ``fusednn.ops`` names them.
    hyperparameters : dict
        Besides the learning rate, as ``fusednn.ops`` names them.
    weight_decay : float
        Decoupled.
    max_norm : float or None
        The global norm that gradients are clipped to before.
    """

    kind: str
    states: tuple[str, ...]
    hyperparameters: dict[str, float | bool] = field(default_factory=dict)
    weight_decay: float = 0.0
    max_norm: float | None = None


_ADAM = ("exp_avgs", "exp_avg_sqs")

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer("sgd", ()),
    "momentum": Optimizer("sgd", ("momentum_buffers",), {"momentum": 0.9}),
    "nesterov": Optimizer("sgd", ("momentum_buffers",), {"momentum": 0.9, "nesterov": True}),
    "adagrad": Optimizer("adagrad", ("sums",), {"eps": 1e-8}),
    "rmsprop": Optimizer("rmsprop", ("square_avgs",), {"rho": 0.99, "eps": 1e-8}),
    "rmsprop-centered": Optimizer(
        "rmsprop", ("square_avgs", "grad_avgs"), {"rho": 0.99, "eps": 1e-8, "centered": True}
    ),
    "rmsprop-momentum": Optimizer(
        "rmsprop", ("square_avgs", "momentum_buffers"), {"rho": 0.99, "eps": 1e-8, "momentum": 0.9}
    ),
    "adam": Optimizer("adam", _ADAM, {"eps": 1e-8}),
    "amsgrad": Optimizer("adam", (*_ADAM, "max_exp_avg_sqs"), {"eps": 1e-8, "amsgrad": True}),
    "adamw": Optimizer("adam", _ADAM, {"eps": 1e-8}, weight_decay=0.01),
    "adam-clip": Optimizer("adam", _ADAM, {"eps": 1e-8}, max_norm=1.0),
}

#: Slope of every leaky ReLU, and what is added to every variance.
NEGATIVE_SLOPE = 0.1
EPS = 1e-5
#: Of BatchNorm, as PyTorch means it.
MOMENTUM = 0.1
#: Of every optimizer; larger for bfloat16, in which a step of 0.01 would mostly round away.
LEARNING_RATES = {"float32": 0.01, "float64": 0.01, "bfloat16": 0.1}
STEP_LEARNING_RATE = 0.001


def size_of(shapes: list[Shape]) -> int:
    """Count the elements of a list of arrays."""
    return sum(prod(shape) for shape in shapes)
