"""The optimizers, one row each: states, and the options that the tests of all of them take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Optimizer:
    """One row: the states in order, and the options that set it apart.

    A state given as ``name: option`` is kept only where that option is on. The first `positional`
    states follow the gradients in a call; the others go by name. Of `options` a convention is
    tested with those that its framework has, and with `own_options`; the last is PyTorch's fullest.
    """

    states: dict[str, str | None]
    positional: int
    options: tuple[dict[str, Any], ...]
    own_options: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    initial: dict[str, float] = field(default_factory=dict)

    def state_names(self, options: dict[str, Any]) -> list[str]:
        """The lists of states that a call with `options` keeps."""
        return [n for n, option in self.states.items() if option is None or options.get(option)]


OPTIMIZERS = {
    "sgd": Optimizer(
        states={"momentum_buffers": "momentum"},
        positional=1,
        options=(
            {},
            {"dampening": 0.5},
            {"momentum": 0.9, "dampening": 0.5},
            {"momentum": 0.9},
            {"momentum": 0.9, "nesterov": True},
        ),
        own_options={
            "keras": ({"nesterov": True},),
            "tf1": ({"nesterov": True},),
            "optax": ({"nesterov": True},),
            "onnx": (
                {"dampening": 0.5, "nesterov": True},
                {"momentum": 0.9, "dampening": 0.5, "nesterov": True},
            ),
            "mlx": ({"momentum": 0.9, "dampening": -0.5},),
        },
    ),
    "adagrad": Optimizer(
        states={"sums": None},
        positional=1,
        options=({}, {"lr_decay": 0.05}, {"eps": 1e-2}),
        initial={"sums": 0.1},
    ),
    "rmsprop": Optimizer(
        states={"square_avgs": None, "momentum_buffers": "momentum", "grad_avgs": "centered"},
        positional=1,
        options=(
            {},
            {"rho": 0.95, "eps": 1e-2},
            {"momentum": 0.9},
            {"centered": True},
            {"momentum": 0.9, "centered": True, "eps": 1e-2},
        ),
        own_options={
            "optax": (
                {"momentum": 0.9, "nesterov": True},
                {"eps_in_sqrt": False, "eps": 1e-2},
                {"bias_correction": True, "eps": 1e-2},
                {"bias_correction": True, "eps_in_sqrt": False, "momentum": 0.5, "nesterov": True},
            ),
        },
    ),
    "adam": Optimizer(
        states={"exp_avgs": None, "exp_avg_sqs": None, "max_exp_avg_sqs": "amsgrad"},
        positional=2,
        options=(
            {},
            {"eps_root": 1e-2},
            {"eps_root": 1e-2, "amsgrad": True, "beta2": 0.9},
            {"bias_correction": True, "eps": 1e-2},
            {"norm_coefficient_post": 2**-7},
            {"beta1": 0.8, "beta2": 0.99, "eps": 1e-2},
            {"amsgrad": True},
            {"amsgrad": True, "eps": 1e-2},
        ),
    ),
    "adamax": Optimizer(
        states={"exp_avgs": None, "exp_infs": None},
        positional=2,
        options=({}, {"beta1": 0.8, "beta2": 0.99}, {"beta1": 0.8, "beta2": 0.99, "eps": 1e-2}),
    ),
    "nadam": Optimizer(
        states={"exp_avgs": None, "exp_avg_sqs": None},
        positional=2,
        options=(
            {},
            {"eps_root": 1e-2},
            {"momentum_decay": 0.0},
            {"momentum_decay": 0.125, "eps": 1e-2},
            {"beta1": 0.8, "beta2": 0.99, "eps": 1e-2},
        ),
    ),
}
