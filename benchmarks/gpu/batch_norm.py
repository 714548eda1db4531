"""BatchNorm with leaky ReLU: fusednn beside PyTorch, eager and compiled, with and without cuDNN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cases import Case, Contender, Prepared

from fusednn import ops

SLOPE, EPS, MOMENTUM = 0.01, 1e-5, 0.1
#: What is timed, and the arrays that it must move: 1R + 1W, 2R + 1W, and one after the other.
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward+backward"
ARRAYS = {FORWARD: 2, BACKWARD: 3, BOTH: 5}
#: (N, C, H, W): the layers that are compared elsewhere, too; 64 x 56 x 56 is the one whose channel
#: just fits on chip.
SHAPES = ((32, 64, 112, 112), (256, 64, 112, 112), (32, 256, 56, 56), (64, 64, 56, 56))
ROWS = (8192, 1024)
#: In a dry run one shape stands for all images.
SMALL = {SHAPES[0]: (2, 4, 6, 7), ROWS: (12, 9)}


class Layer:
    """The arrays of one layer, on the device, in the order of `layout`."""

    def __init__(self, torch: Any, where: str, shape: tuple[int, ...], layout: str, dtype: str):
        self.torch, self.layout = torch, layout
        kind = getattr(torch, dtype)
        channels = shape[1]
        self.x = torch.randn(shape, device=where).to(kind)
        self.grad = torch.randn(shape, device=where).to(kind)
        if layout == "NHWC":
            last = torch.channels_last
            self.x, self.grad = (t.to(memory_format=last) for t in (self.x, self.grad))
        self.gamma, self.beta = (torch.rand(channels, device=where) + 0.5 for _ in range(2))
        self.running = [torch.zeros(channels, device=where), torch.ones(channels, device=where)]

    def fused(self, what: str) -> Prepared:
        """fusednn's calls, with outputs that are allocated once."""
        y, grad_x = self.torch.empty_like(self.x), self.torch.empty_like(self.x)
        small = [self.torch.empty_like(self.gamma) for _ in range(4)]
        running = {"running_mean": self.running[0], "running_var": self.running[1]}
        affine = self.gamma, self.beta
        how = {"negative_slope": SLOPE}
        called: list[bool] = []

        def work() -> None:
            # The first call of `BACKWARD` gives it statistics, on the stream that it is timed on.
            if what != BACKWARD or not called:
                out = (y, small[0], small[1])
                ops.batch_norm_forward(
                    self.x, *affine, **running, momentum=MOMENTUM, eps=EPS, out=out, **how
                )
                called[:] = [True]
            if what != FORWARD:
                gradients = (grad_x, small[2], small[3])
                saved = small[:2]
                ops.batch_norm_backward(self.grad, self.x, *affine, *saved, out=gradients, **how)

        gradients = [grad_x, small[2], small[3]]
        results = {FORWARD: [y], BACKWARD: gradients, BOTH: [y, *gradients]}[what]
        return work, lambda: results

    def staged(self) -> Prepared:
        """Forward in two passes over x: statistics, then the map."""
        torch, affine = self.torch, (self.gamma, self.beta)
        y = torch.empty_like(self.x)
        inv_std = torch.rand_like(self.gamma) + 0.5

        def work() -> None:
            mean, _, _ = ops.batch_norm_statistics(self.x)
            ops.batch_norm_apply(self.x, mean, inv_std, *affine, negative_slope=SLOPE, out=y)

        return work, lambda: [y]

    def of_torch(self, function: Callable[..., Any], what: str) -> Prepared:
        """PyTorch's, by autograd where gradients are asked for."""
        torch = self.torch
        leaves = [
            t.detach().requires_grad_(what != FORWARD) for t in (self.x, self.gamma, self.beta)
        ]
        held: list[Any] = []
        output: list[Any] = []

        def work() -> None:
            if what != BACKWARD or not output:
                # Autograd goes back on the stream that forward ran on: the one that is timed.
                output[:] = [function(*leaves, *self.running)]
            gradients = ()
            if what != FORWARD:
                gradients = torch.autograd.grad(
                    output, leaves, self.grad, retain_graph=what == BACKWARD
                )
            held[:] = gradients if what == BACKWARD else [*output, *gradients]

        return work, lambda: held


def function_of(torch: Any, cudnn: bool = True) -> Callable[..., Any]:
    """PyTorch's layer; `cudnn`: with cuDNN's kernels where PyTorch would take them."""
    functional = torch.nn.functional

    def layer(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
        z = functional.batch_norm(x, mean, var, gamma, beta, True, MOMENTUM, EPS)
        return functional.leaky_relu(z, SLOPE)

    def without(*arguments: Any) -> Any:
        with torch.backends.cudnn.flags(enabled=False):
            return layer(*arguments)

    return layer if cudnn else without


def cases(torch: Any, where: str, small: bool) -> Iterator[Case]:
    """Forward, backward, and one after the other, of every layer; the first one compiled, too."""
    for layer in _layers(small):
        yield _case(torch, where, layer, eager=True, compiled=_is_first(layer))


def compiled_cases(torch: Any, where: str, small: bool) -> Iterator[Case]:
    """The layers that `cases` leaves uncompiled, beside torch.compile alone: seconds for each.

    A dry run has one of them.
    """
    left = [layer for layer in _layers(small) if not _is_first(layer)]
    for layer in left[:1] if small else left:
        yield _case(torch, where, layer, eager=False, compiled=True)


class _Measured(NamedTuple):
    """What is done to which layer."""

    size: tuple[int, ...]
    layout: str
    dtype: str
    what: str


def _layers(small: bool) -> Iterator[_Measured]:
    for dtype in ("bfloat16", "float32"):
        for size in SMALL.values() if small else (*SHAPES, ROWS):
            for layout in ("NCHW", "NHWC") if len(size) == 4 else ("NC",):
                for what in ARRAYS:
                    yield _Measured(size, layout, dtype, what)


def _is_first(layer: _Measured) -> bool:
    return layer.layout == "NCHW" and layer.size in (SHAPES[0], SMALL[SHAPES[0]])


def questions(torch: Any, where: str, small: bool) -> Iterator[Case]:
    """The layer whose channel just fits on chip: kept there, or read once more."""
    size = SMALL[SHAPES[0]] if small else (64, 64, 56, 56)
    for dtype in ("bfloat16", "float32"):

        def layer(seed: int, dtype: str = dtype) -> Layer:
            torch.manual_seed(seed)
            return Layer(torch, where, size, "NCHW", dtype)

        elements = torch.Size(size).numel() * (4 if dtype == "float32" else 2)
        contenders = (
            Contender("fusednn", lambda seed, of=layer: of(seed).fused(FORWARD)),
            Contender("fusednn in stages", lambda seed, of=layer: of(seed).staged(), 3 * elements),
        )
        name = f"kept on chip {'x'.join(map(str, size))} NCHW {dtype} forward"
        yield Case(name, 2 * elements, 4 * elements, contenders, None)


def _case(torch: Any, where: str, measured: _Measured, *, eager: bool, compiled: bool) -> Case:
    size, layout, dtype, what = measured
    name = f"batch_norm {'x'.join(map(str, size))} {layout} {dtype} {what}"
    elements = torch.Size(size).numel() * (4 if dtype == "float32" else 2)

    def layer(seed: int) -> Layer:
        torch.manual_seed(seed)
        return Layer(torch, where, size, layout, dtype)

    def of_torch(function: Callable[..., Any]) -> Callable[[int], Prepared]:
        return lambda seed: layer(seed).of_torch(function, what)

    function = torch.compile(function_of(torch), dynamic=False)

    def of_compiled(seed: int) -> Prepared:
        if seed == 0:  # or after a few shapes nothing is compiled any more
            torch.compiler.reset()
            # Else what is compiled gives memory of forward away in its first backward pass.
            torch._functorch.config.donated_buffer = what != BACKWARD
        return layer(seed).of_torch(function, what)

    contenders = [Contender("fusednn", lambda seed: layer(seed).fused(what))]
    if eager:
        contenders += [
            Contender("torch", of_torch(function_of(torch))),
            Contender("torch without cuDNN", of_torch(function_of(torch, cudnn=False))),
        ]
    else:
        name += ", beside torch.compile"
    if compiled:
        contenders.append(Contender("torch.compile", of_compiled))
    return Case(
        name,
        elements * ARRAYS[what],
        elements * 4,
        tuple(contenders),
        3e-2 if dtype == "bfloat16" else 1e-4,
    )
