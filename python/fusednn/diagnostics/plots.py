"""Pictures of signals, gradients and learning curves, with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusednn.diagnostics.signals import Signals

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    """Draw the size of the gradient at each layer, on a logarithmic scale.

    Layers whose gradient is 0 or not known have no point.
    """
    ax = _axes(ax)
    ax.semilogy([layer.gradient_std or math.nan for layer in signals.layers], "o-")
    ax.set(ylabel="standard deviation of the gradient")
    return _named(ax, signals)


def plot_history(history: Mapping[str, Sequence[float]] | Any, ax: Axes | None = None) -> Axes:
    """Draw what `Sequential.fit` returned, validation dashed, over the epochs.

    Of a metric with a number for each class, a line for each.
    """
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
