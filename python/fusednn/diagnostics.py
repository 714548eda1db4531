"""How signals and gradients fare from layer to layer, and what is wrong with them.

The first lesson about deep networks, made visible: activations that saturate or die, gradients that
vanish or explode on their way back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn import devices, utils
from fusednn.callbacks import Callback
from fusednn.layers import Activation, Dense, Layer, LeakyReLU, ReLU
from fusednn.layers.activation import ActivationStep
from fusednn.layers.buffers import Buffers
from fusednn.layers.step import Step
from fusednn.models.data import as_targets
from fusednn.models.sequential import Sequential

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "DiagnosticsCallback",
    "LayerSignals",
    "Signals",
    "examine",
    "plot_gradients",
    "plot_history",
    "plot_signal",
]

Array = np.ndarray[Any, np.dtype[Any]]

#: Outputs of a bounded function count as saturated within this of a bound.
_NEAR_A_BOUND = 0.02
_BOUNDS = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
_RECTIFIERS = ("relu", "relu6")


@dataclass(frozen=True)
class LayerSignals:
    """What one layer does with one batch.

    Attributes
    ----------
    name, kind : str
        Name of the layer, and of its class.
    mean, std : float
        Of its outputs.
    saturated : float or None
        Fraction of outputs near a bound, where the activation has bounds.
    dead : float or None
        Fraction of units that are 0 for all samples, where the activation is a ReLU.
    gradient_std : float
        Standard deviation of the gradient of a single sample's loss with respect to the outputs;
        to the logits where the loss takes the place of the last activation.
    weight_gradient : float or None
        Norm of the gradient of the weights over that of the weights; None without weights.
    """

    name: str
    kind: str
    mean: float
    std: float
    saturated: float | None
    dead: float | None
    gradient_std: float
    weight_gradient: float | None


@dataclass(frozen=True)
class Signals:
    """All layers of a model, front to back."""

    layers: tuple[LayerSignals, ...]

    def findings(self) -> list[str]:
        """Return one sentence for each thing that looks wrong; nothing if all is well."""
        found = []
        for layer in self.layers:
            if not all(map(math.isfinite, (layer.mean, layer.std, layer.gradient_std))):
                found.append(f"Values of layer '{layer.name}' are not finite.")
            if layer.saturated is not None and layer.saturated > 0.5:
                found.append(
                    f"Saturated: {layer.saturated:.0%} of the outputs of layer '{layer.name}' are "
                    "near a bound, where the derivative is almost 0."
                )
            if layer.dead is not None and layer.dead > 0.4:
                found.append(
                    f"Dead ReLUs: {layer.dead:.0%} of the units of layer '{layer.name}' are 0 for "
                    "all samples."
                )
        weighted = [layer for layer in self.layers if layer.weight_gradient is not None]
        if len(weighted) > 2:
            first, last = weighted[0], weighted[-1]
            ratio = first.gradient_std / max(last.gradient_std, 1e-300)
            if ratio < 1e-3:
                found.append(
                    f"Vanishing gradients: at layer '{first.name}' they are {ratio:.0e} of what "
                    f"they are at layer '{last.name}'."
                )
            elif ratio > 1e3:
                found.append(
                    f"Exploding gradients: at layer '{first.name}' they are {ratio:.0e} times what "
                    f"they are at layer '{last.name}'."
                )
        return found

    def __str__(self) -> str:
        lines = [
            f"{'layer':<28}{'mean':>10}{'std':>10}{'saturated':>11}{'dead':>7}{'gradient':>11}"
        ]
        for x in self.layers:
            parts = ["" if v is None else f"{v:.0%}" for v in (x.saturated, x.dead)]
            lines.append(
                f"{x.name[:27]:<28}{x.mean:>10.3g}{x.std:>10.3g}{parts[0]:>11}{parts[1]:>7}"
                f"{x.gradient_std:>11.2e}"
            )
        return "\n".join(lines + self.findings())


def examine(model: Sequential, x: ArrayLike, y: ArrayLike) -> Signals:
    """Send one batch through a compiled model and back, and look at every layer.

    Weights, moving statistics, the optimizer and the package's random generator stay as they are.
    Layers run in training mode, one by one and on the CPU.

    Parameters
    ----------
    model : Sequential
        Compiled.
    x, y : array_like
        A batch, as of `Sequential.fit`.

    Raises
    ------
    ValueError, TypeError
        The model is not compiled, or the batch does not fit.
    NotImplementedError
        The model is on a GPU.
    """
    objective = model._compiled()
    if devices.current() is not devices.CPU:
        raise NotImplementedError("`examine` runs on the CPU alone.")
    inputs = model._fitting_inputs(x, "x")
    targets = as_targets(y, model.dtype, len(inputs))
    with utils.own_generator(np.random.default_rng(0)), np.errstate(all="ignore"):
        return _examine(model, objective.loss, inputs, targets)


def _examine(model: Sequential, loss: Any, inputs: Array, targets: Array) -> Signals:
    outputs: list[Array] = []
    steps: list[list[Step]] = []
    signal = before = inputs
    for layer in model._leaves:
        own = layer.steps_to_run(training=True, trainable=layer.trainable)
        shapes = [signal.shape]
        for step in own:
            shapes.append(step.output_shape(shapes[-1]))
        buffers = Buffers(model.dtype, max(map(math.prod, shapes)), keep_outputs=True)
        for step, shape in zip(own, shapes, strict=False):
            step.bind(shape, buffers, grad_input=True)
            step.prepare()
            before, signal = signal, step.forward(signal)
            step.undo()
        steps.append(own)
        outputs.append(signal)
    last = steps[-1][-1] if steps[-1] else None
    if (
        isinstance(last, ActivationStep)
        and last.activation.name == loss.link
        and not loss.from_logits
    ):
        # As in training: from logits, where probabilities would be clipped.
        steps[-1].pop()
        _, grad = loss.value_and_gradient(targets, before, from_logits=True)
    else:
        _, grad = loss.value_and_gradient(targets, signal)
    found: list[LayerSignals] = []
    for layer, own, output in zip(
        reversed(model._leaves), reversed(steps), reversed(outputs), strict=True
    ):
        spread = float(grad.std(dtype=np.float64)) * len(inputs)
        for step in reversed(own):
            grad = step.backward(grad)
        found.append(_signals(layer, output, spread))
    return Signals(tuple(reversed(found)))


def _signals(layer: Layer, output: Array, gradient_std: float) -> LayerSignals:
    name = _activation_of(layer)
    saturated = dead = None
    if name in _BOUNDS:
        low, high = _BOUNDS[name]
        margin = _NEAR_A_BOUND * (high - low)
        saturated = float(((output < low + margin) | (output > high - margin)).mean())
    if name in _RECTIFIERS:
        dead = float((output == 0).reshape(len(output), -1).all(axis=0).mean())
    weights = layer.trainable_weights
    share = None
    if weights:
        size = math.sqrt(sum(float(np.vdot(v.value, v.value)) for v in weights))
        share = math.sqrt(sum(float(np.vdot(v.grad, v.grad)) for v in weights)) / (size or 1.0)
    return LayerSignals(
        layer.name,
        type(layer).__name__,
        float(output.mean(dtype=np.float64)),
        float(output.std(dtype=np.float64)),
        saturated,
        dead,
        gradient_std,
        share,
    )


def _activation_of(layer: Layer) -> str:
    if isinstance(layer, ReLU):
        return "relu" if layer.negative_slope == 0 else "leaky_relu"
    if isinstance(layer, LeakyReLU):
        return "leaky_relu"
    made = getattr(layer, "activation", None) if isinstance(layer, (Activation, Dense)) else None
    return "linear" if made is None else str(made.name)


class DiagnosticsCallback(Callback):
    """Examines a batch after each epoch of `fit`.

    Parameters
    ----------
    x, y : array_like
        The batch; some hundred samples are enough.
    verbose : {0, 1}
        1 prints what looks wrong.

    Attributes
    ----------
    signals : list of Signals
        One for each epoch.
    """

    def __init__(self, x: ArrayLike, y: ArrayLike, verbose: int = 1) -> None:
        super().__init__()
        self.x = x
        self.y = y
        self.verbose = verbose
        self.signals: list[Signals] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Examine the batch."""
        self.signals.append(examine(self.model, self.x, self.y))
        if self.verbose:
            for sentence in self.signals[-1].findings():
                print(f"Epoch {epoch + 1}: {sentence}")


def plot_signal(signals: Signals, ax: Axes | None = None) -> Axes:
    """Draw mean and standard deviation of each layer's outputs; returns matplotlib's axes."""
    ax = _axes(ax)
    places = range(len(signals.layers))
    ax.errorbar(
        places,
        [layer.mean for layer in signals.layers],
        [layer.std for layer in signals.layers],
        fmt="o",
        capsize=3,
    )
    ax.set(ylabel="outputs: mean and standard deviation")
    return _named(ax, signals)


def plot_gradients(signals: Signals, ax: Axes | None = None) -> Axes:
    """Draw the size of the gradient at each layer, on a logarithmic scale."""
    ax = _axes(ax)
    ax.semilogy([max(layer.gradient_std, 1e-300) for layer in signals.layers], "o-")
    ax.set(ylabel="standard deviation of the gradient")
    return _named(ax, signals)


def plot_history(history: Mapping[str, Sequence[float]] | Any, ax: Axes | None = None) -> Axes:
    """Draw what `Sequential.fit` returned, validation dashed, over the epochs."""
    logs = getattr(history, "history", history)
    ax = _axes(ax)
    for name, values in logs.items():
        style = "--" if name.startswith("val_") else "-"
        ax.plot(range(1, len(values) + 1), values, style, label=name)
    ax.set(xlabel="epoch")
    ax.legend()
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    made: Axes = plt.subplots()[1]
    return made


def _named(ax: Axes, signals: Signals) -> Axes:
    ax.set_xticks(range(len(signals.layers)))
    ax.set_xticklabels([layer.name for layer in signals.layers], rotation=90)
    return ax
