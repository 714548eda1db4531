"""Optimizer steps: fusednn beside PyTorch's fused and foreach ones, apex and bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cases import Case, Contender, MissingError, Prepared

from fusednn import ops

LR = 1e-3
#: Elements of each tensor.
LISTS = {
    "25.6M in 160 tensors": (7 * 7 * 3 * 64, *(64, 256) * 27, *(2048, 512, 728_000) * 35),
    "500 of 1,000": (1000,) * 500,
    "1B in 16 tensors": (1 << 26,) * 16,
}
SMALL = {"25.6M in 160 tensors": (7, 1, 130)}
#: Bytes of a float32 parameter that a step must move: itself and each state twice, its gradient.
KINDS = {"adam": 28, "rmsprop": 20, "momentum": 20}
#: How many states there are.
STATES = {"adam": 2, "rmsprop": 1, "momentum": 1}


class Lists:
    """Parameters and gradients of one set."""

    def __init__(self, torch: Any, where: str, sizes: tuple[int, ...], seed: int) -> None:
        self.torch, self.where = torch, where
        torch.manual_seed(seed)
        self.params = [torch.randn(n, device=where) for n in sizes]
        self.grads = [torch.randn(n, device=where) for n in sizes]

    def fused(self, kind: str) -> Prepared:
        """fusednn's step; its number is the device's, so that a graph goes on."""
        torch = self.torch
        on_gpu = self.where == "cuda"
        step: Any = torch.zeros(1, device=self.where) if on_gpu else 1
        states = [[torch.zeros_like(p) for p in self.params] for _ in range(STATES[kind])]
        lists = self.params, self.grads, *states

        def work() -> None:
            if kind == "adam":
                ops.adam_step(*lists, step=step, lr=LR)
            elif kind == "rmsprop":
                ops.rmsprop_step(*lists, step=step, lr=LR)
            else:
                ops.sgd_step(*lists, step=step, lr=LR, momentum=0.9)

        return work, lambda: self.params

    def of(self, make: Callable[[list[Any]], Any]) -> Prepared:
        """The step of an optimizer with PyTorch's interface."""
        parameters = [self.torch.nn.Parameter(p) for p in self.params]
        for parameter, grad in zip(parameters, self.grads, strict=True):
            parameter.grad = grad
        optimizer = make(parameters)
        return optimizer.step, lambda: [p.data for p in parameters]


def torch_optimizer(torch: Any, kind: str, where: str, **how: bool) -> Callable[[list[Any]], Any]:
    """PyTorch's optimizer, made so that its step can be captured."""
    optim = torch.optim
    if kind == "momentum":
        return lambda params: optim.SGD(params, lr=LR, momentum=0.9, **how)
    own = {**how, "capturable": where == "cuda"}
    if kind == "rmsprop":
        if "fused" in how:
            raise MissingError("PyTorch has no fused RMSprop")
        return lambda params: optim.RMSprop(params, lr=LR, **own)
    return lambda params: optim.Adam(params, lr=LR, **own)


def apex_optimizer(kind: str) -> Callable[[list[Any]], Any]:
    """apex's fused optimizer."""
    from apex import optimizers

    if kind == "adam":
        return lambda params: optimizers.FusedAdam(params, lr=LR, adam_w_mode=False)
    if kind == "momentum":
        return lambda params: optimizers.FusedSGD(params, lr=LR, momentum=0.9)
    raise MissingError("apex has no fused RMSprop")


def bitsandbytes_optimizer(kind: str) -> Callable[[list[Any]], Any]:
    """bitsandbytes' optimizer with states in 32 bits."""
    from bitsandbytes import optim

    if kind == "adam":
        return lambda params: optim.Adam32bit(params, lr=LR)
    if kind == "rmsprop":
        return lambda params: optim.RMSprop32bit(params, lr=LR)
    return lambda params: optim.SGD32bit(params, lr=LR, momentum=0.9)


def cases(torch: Any, where: str, small: bool) -> Iterator[Case]:
    """Every optimizer on every list."""
    for lists, sizes in (SMALL if small else LISTS).items():
        for kind in KINDS:
            yield _case(torch, where, lists, sizes, kind)


def _case(torch: Any, where: str, lists: str, sizes: tuple[int, ...], kind: str) -> Case:
    def made(seed: int) -> Lists:
        return Lists(torch, where, sizes, seed)

    def of(make: Callable[[], Callable[[list[Any]], Any]]) -> Callable[[int], Prepared]:
        return lambda seed: made(seed).of(make())

    contenders = (
        Contender("fusednn", lambda seed: made(seed).fused(kind)),
        Contender("torch fused", of(lambda: torch_optimizer(torch, kind, where, fused=True))),
        Contender("torch foreach", of(lambda: torch_optimizer(torch, kind, where, foreach=True))),
        Contender("apex", of(lambda: apex_optimizer(kind))),
        Contender("bitsandbytes", of(lambda: bitsandbytes_optimizer(kind))),
    )
    bytes_ = sum(sizes) * KINDS[kind]
    room = sum(sizes) * 4 * (2 + STATES[kind])
    return Case(f"{kind} {lists}", bytes_, room, contenders, 1e-5)
