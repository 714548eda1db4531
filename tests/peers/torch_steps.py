"""Steps of optimizers of `fusednn.torch.optim` and of `torch.optim`, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from fusednn.torch import optim

NAMES = ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Adamax")
#: Of which PyTorch has no fused form, and no argument for it.
NEVER_FUSED = ("RMSprop", "Adamax")
SHAPES = ((7,), (3, 5, 7), (97,), (), (0, 4))

#: Options that go to both, each list a choice; `cases` takes every combination.
COMMON = {"weight_decay": [0.0, 0.1], "maximize": [False, True]}
CHOICES: dict[str, dict[str, list[Any]]] = {
    "SGD": COMMON
    | {
        "momentum_dampening_nesterov": [
            (0.0, 0.0, False),
            (0.0, 0.4, False),
            (0.9, 0.0, False),
            (0.9, 0.4, False),
            (0.9, -0.5, False),
            (0.9, 0.0, True),
        ]
    },
    "Adagrad": COMMON
    | {"lr_decay": [0.0, 0.1], "initial_accumulator_value": [0.0, 0.3], "eps": [1e-10, 1e-3]},
    "RMSprop": COMMON
    | {
        "alpha": [0.99, 0.5],
        "eps": [1e-8, 1e-2],
        "momentum": [0.0, 0.9],
        "centered": [False, True],
    },
    "Adam": COMMON
    | {
        "betas": [(0.9, 0.999), (0.5, 0.6), (0.0, 0.0)],
        "eps": [1e-8, 1e-2],
        "amsgrad": [False, True],
        "decoupled_weight_decay": [False, True],
    },
    "AdamW": COMMON | {"betas": [(0.9, 0.999), (0.5, 0.6)], "amsgrad": [False, True]},
    "Adamax": COMMON | {"betas": [(0.9, 0.999), (0.5, 0.6), (0.0, 0.0)], "eps": [1e-8, 1e-2]},
}


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every combination of every optimizer's options."""
    for name, choices in CHOICES.items():
        combined: list[dict[str, Any]] = [{}]
        for option, values in choices.items():
            combined = [so_far | {option: value} for so_far in combined for value in values]
        for options in combined:
            together = options.pop("momentum_dampening_nesterov", None)
            if together is not None:
                keys = ("momentum", "dampening", "nesterov")
                options |= dict(zip(keys, together, strict=True))
            yield name, options


def case_id(value: Any) -> str:
    """What pytest calls a case."""
    if not isinstance(value, dict):
        return str(value).removeprefix("torch.")
    return ",".join(f"{name}={option}" for name, option in value.items())


def parameters(
    dtype: torch.dtype = torch.float32, shapes: tuple[tuple[int, ...], ...] = SHAPES
) -> list[torch.nn.Parameter]:
    """The same parameters each time."""
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def set_gradients(params: list[torch.nn.Parameter], step: int, without: int | None = None) -> None:
    """The same gradients for the same step; None for the parameter at `without`."""
    generator = torch.Generator().manual_seed(100 + step)
    for i, p in enumerate(params):
        grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        p.grad = None if i == without else grad


def pair(
    name: str,
    dtype: torch.dtype = torch.float32,
    ours: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Our optimizer and PyTorch's, on the same parameters; `ours` has options for ours alone."""
    options = {"lr": 0.05} | options
    own = options | (ours or {})
    return (
        getattr(optim, name)(parameters(dtype), **own),
        getattr(torch.optim, name)(parameters(dtype), **options),
    )


def params_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def step_both(
    ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, steps: range = range(6)
) -> None:
    """Steps with the same gradients; from the third on another parameter has none each time."""
    for step in steps:
        without = step % 4 if step > 1 else None
        for optimizer in (ours, theirs):
            set_gradients(params_of(optimizer), step, without)
            optimizer.step()


#: Relative and absolute: some roundings.
TOLERANCES = {
    torch.float32: (1e-5, 1e-5),
    torch.float64: (1e-12, 1e-12),
    torch.float16: (4e-3, 4e-3),
    torch.bfloat16: (2.5e-2, 2.5e-2),
}


def assert_same(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer) -> None:
    """Parameters and all states agree, and the states have the same names in the same order."""
    for own, peer in zip(params_of(ours), params_of(theirs), strict=True):
        rtol, atol = TOLERANCES[own.dtype]
        torch.testing.assert_close(own, peer, rtol=rtol, atol=atol)
        own_state, peer_state = ours.state[own], theirs.state[peer]
        assert list(own_state) == list(peer_state)
        for state_name, value in peer_state.items():
            torch.testing.assert_close(own_state[state_name], value, rtol=rtol, atol=atol)
            assert own_state[state_name].stride() == value.stride()
