"""docs/conventions.md says what is computed: its formulas are evaluated, its defaults compared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusednn as keras
from fusednn import _core, ops

TEXT = (Path(__file__).parents[1] / "docs/conventions.md").read_text(encoding="utf-8")
PAGE = TEXT.replace("\N{NON-BREAKING HYPHEN}", "-")
STATES = {
    "SGD": ("sgd", {"b": "momentum_buffers"}),
    "AdaGrad": ("adagrad", {"h": "sums"}),
    "RMSProp": ("rmsprop", {"v": "square_avgs", "b": "momentum_buffers"}),
    "Adam": ("adam", {"m": "exp_avgs", "v": "exp_avg_sqs"}),
    "Adamax": ("adamax", {"m": "exp_avgs", "u": "exp_infs"}),
    "Nadam": ("nadam", {"m": "exp_avgs", "v": "exp_avg_sqs"}),
}
#: What a table's formulas have before them.
MOMENT = "m <- beta1 * m + (1 - beta1) * g"
SQUARES = "v <- beta2 * v + (1 - beta2) * g**2"
BEFORE = {"Adam": [MOMENT, SQUARES], "Adamax": [MOMENT], "Nadam": [MOMENT, SQUARES]}


def table(section: str) -> dict[str, list[str]]:
    """The rows of a section's table, keyed by their first cell."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    return {row[0]: row[1:] for row in rows[1:]}


def statements(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def run(lines: list[str], names: dict[str, Any]) -> None:
    for line in lines:
        target, _, expression = line.partition(" <- ")
        names[target] = eval(expression, {"sqrt": sqrt, "max": max, "abs": abs}, names)


def formula_path(
    section: str, lines: list[str], hyperparameters: dict[str, float], steps: int = 4
) -> list[float]:
    names: dict[str, Any] = dict.fromkeys(STATES[section][1], 0.0) | {"p": 1.0, "x": 0.0, "q": 1.0}
    path = []
    for t in range(1, steps + 1):
        b1, b2 = hyperparameters.get("beta1", 0.9), hyperparameters.get("beta2", 0.999)
        names |= hyperparameters | {"t": t, "g": gradient(t), "c1": 1 - b1**t, "c2": 1 - b2**t}
        run([*BEFORE.get(section, []), *lines], names)
        path.append(names["p"])
    return path


def kernel_path(
    section: str, convention: str, given: dict[str, Any], steps: int = 4
) -> list[float]:
    kind = STATES[section][0]
    p = np.ones(1)
    names = {*STATES[section][1].values()} | ({"max_exp_avg_sqs"} if "amsgrad" in given else set())
    states = {name: [np.zeros(1)] for name in names}
    if not given.get("momentum"):
        states.pop("momentum_buffers", None)
    path = []
    for t in range(1, steps + 1):
        step = t - 1 if convention == "onnx" else t
        grads = [np.full(1, gradient(t))]
        ops.optimizer_step(kind, [p], grads, states, given, step=step, convention=convention)
        path.append(float(p[0]))
    return path


def gradient(t: int) -> float:
    return 0.3 * (-1) ** t / t + 0.2


def cases() -> list[tuple[str, str]]:
    return [(section, convention) for section in STATES for convention in table(section)]


@pytest.mark.parametrize(("section", "convention"), cases())
def test_formulas_are_what_is_computed(section: str, convention: str) -> None:
    row = table(section)[convention]
    lines = statements(row[0])
    options: dict[str, float] = {"lr": 0.1}
    own = _core.optimizer_hyperparameters(STATES[section][0])
    # Far from the defaults, so that the place of an epsilon is seen.
    values = {"eps": 0.3, "rho": 0.7, "momentum": 0.5, "lr_decay": 0.2, "momentum_decay": 0.1}
    for name, value in values.items():
        if name in own and any(re.search(rf"\b{name}\b", line) for line in lines):
            options[name] = value
    if section in BEFORE:
        options |= {"beta1": 0.6, "beta2": 0.8}
    if any("dampening" in line for line in lines):
        options["dampening"] = 0.25
    expected = formula_path(section, lines, options)
    np.testing.assert_allclose(kernel_path(section, convention, options), expected, rtol=1e-12)


@pytest.mark.parametrize("option", ["nesterov=True", "eps_in_sqrt=False", "bias_correction=True"])
def test_options_of_optax_rmsprop(option: str) -> None:
    (formula,) = re.findall(rf"^- `{option}`: (.*)$", PAGE, re.M)
    numbers = {"lr": 0.1, "eps": 0.3, "rho": 0.7, "momentum": 0.5}
    expected = formula_path("RMSProp", statements(formula), numbers)
    name, value = option.split("=")
    given = numbers | {name: value == "True"}
    np.testing.assert_allclose(kernel_path("RMSProp", "optax", given), expected, rtol=1e-12)


@pytest.mark.parametrize("convention", table("SGD"))
def test_nesterov(convention: str) -> None:
    first, second = table("SGD")[convention]
    lines = [*statements(first)[:-1], *statements(second)]
    options = {"lr": 0.1, "momentum": 0.5, "dampening": 0.0}
    expected = formula_path("SGD", lines, options)
    given = options | {"nesterov": True}
    np.testing.assert_allclose(kernel_path("SGD", convention, given), expected, rtol=1e-12)


@pytest.mark.parametrize("convention", table("Adam"))
def test_amsgrad(convention: str) -> None:
    formula, maximum, _ = table("Adam")[convention]
    options = {"lr": 0.1, "beta1": 0.6, "beta2": 0.5, "eps": 0.3}
    if maximum == "-":
        with pytest.raises((ValueError, NotImplementedError), match="amsgrad"):
            kernel_path("Adam", convention, options | {"amsgrad": True})
        return
    lines = statements(maximum)
    replaced = lines[1] if len(lines) > 1 else "v"
    step = statements(formula)[0].replace(f"sqrt({replaced}", "sqrt(x")
    expected = formula_path("Adam", [lines[0], step], options)
    given = options | {"amsgrad": True}
    np.testing.assert_allclose(kernel_path("Adam", convention, given), expected, rtol=1e-12)


def test_every_convention_of_every_optimizer_has_a_row() -> None:
    for section, (kind, names) in STATES.items():
        listed = set(table(section))
        for convention in _core.convention_names():
            states = {name: [np.zeros(1)] for name in names.values()}
            arguments = ([np.ones(1)], [np.ones(1)], states, {"lr": 0.1, "momentum": 0.5})
            if "momentum" not in _core.optimizer_hyperparameters(kind):
                arguments[3].pop("momentum")
            if (kind, convention) == ("rmsprop", "mlx"):
                arguments[3].pop("momentum")
                states.pop("momentum_buffers")
            try:
                ops.optimizer_step(kind, *arguments, step=1, convention=convention)
            except (ValueError, NotImplementedError):
                has_it = False
            else:
                has_it = True
            assert has_it == (convention in listed), (section, convention)


@pytest.mark.parametrize(("section", "convention"), [c for c in cases() if c[0] != "SGD"])
def test_defaults(section: str, convention: str) -> None:
    text = PAGE.split(f"\n## {section}\n")[1]
    header = [x.strip() for x in re.findall(r"^\| convention \|(.*)\|$", text, re.M)[0].split("|")]
    row = dict(zip(header, table(section)[convention], strict=True))
    for name in ("eps", "rho", "lr_decay", "momentum_decay"):
        if name not in row:
            continue
        if row[name] == "-":
            with pytest.raises((ValueError, NotImplementedError), match=name):
                kernel_path(section, convention, {"lr": 0.1, name: 0.5})
            continue
        left_out = kernel_path(section, convention, {"lr": 0.1})
        assert kernel_path(section, convention, {"lr": 0.1, name: float(row[name])}) == left_out
        other = 1.01 * float(row[name]) + (0.1 if float(row[name]) == 0 else 0.0)
        assert kernel_path(section, convention, {"lr": 0.1, name: min(other, 0.999)}) != left_out


@pytest.mark.parametrize("convention", table("Decay and clipping"))
def test_decay_and_clipping(convention: str) -> None:
    decay, divisor = table("Decay and clipping")[convention]

    def step(kind: Callable[..., Any], *states: Any, **options: Any) -> float:
        p = np.full(1, 2.0)
        grads = [np.full(1, 0.5)]
        number = 0 if convention == "onnx" else 1
        kind([p], grads, *states, step=number, lr=0.1, convention=convention, **options)
        return float(p[0])

    decoupled = decay.startswith("decoupled")
    for kind, states in ((ops.sgd_step, 1), (ops.adam_step, 2)):
        arrays = [[np.zeros(1)] for _ in range(states)]
        if kind is ops.sgd_step:
            arrays = [None]
        by_default = step(kind, *arrays, weight_decay=0.1)
        arrays = [None] if kind is ops.sgd_step else [[np.zeros(1)] for _ in range(states)]
        other = kind is ops.adam_step and "Adam: decoupled" in decay
        asked = {"decoupled_weight_decay": decoupled or other}
        assert by_default == step(kind, *arrays, weight_decay=0.1, **asked)
    # A norm of 0.5 and a limit of 1e-6 tell an epsilon of that size.
    moved = 2.0 - step(ops.sgd_step, None, max_norm=0.25)
    extra = float(divisor.partition("+")[2] or 0)
    assert moved == pytest.approx(0.1 * 0.5 * 0.25 / (0.5 + extra), rel=1e-9)


def test_batch_norm_and_slopes() -> None:
    rows = table("BatchNorm")
    of_ops = inspect.signature(ops.batch_norm_forward).parameters
    assert [of_ops[name].default for name in ("momentum", "eps")] == [
        float(x) for x in rows["`ops.batch_norm_forward`"][2:]
    ]
    assert of_ops["unbiased_running_var"].default is True
    layer = keras.layers.BatchNormalization()
    found = [float(x) for x in rows["`layers.BatchNormalization`"][2:]]
    assert found == [layer.momentum, layer.epsilon] == [float(x) for x in rows["Keras 3"][2:]]

    x = np.random.default_rng(0).normal(2.0, 3.0, (7, 1))
    for name, row in rows.items():
        if name.startswith("`"):
            continue
        momentum = float(row[2])
        names = {"r": 1.0, "momentum": momentum, "batch": x.var(ddof=int(row[1] == "unbiased"))}
        run(statements(row[0]), names)
        own = momentum if "(1 - momentum) * r" in row[0] else 1 - momentum
        variance = np.ones(1)
        ops.batch_norm_forward(
            *(x, None, None),
            running_mean=np.zeros(1),
            running_var=variance,
            momentum=own,
            unbiased_running_var=row[1] == "unbiased",
        )
        np.testing.assert_allclose(variance[0], names["r"], rtol=1e-12)

    slopes = {name: float(row[0]) for name, row in table("Activations").items()}
    assert slopes["`layers.LeakyReLU`"] == keras.layers.LeakyReLU().negative_slope
    assert slopes["`activations.leaky_relu`"] == -float(
        keras.activations.leaky_relu(-np.ones(1))[0]
    )
    assert slopes["`ops.leaky_relu`, PyTorch"] == -float(ops.leaky_relu(-np.ones(1))[0])
