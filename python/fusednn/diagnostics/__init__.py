"""How signals and gradients fare from layer to layer, and what is wrong with them.

The first lesson about deep networks, made visible: activations that saturate or die, gradients that
vanish or explode on their way back.
"""

from fusednn.diagnostics.callback import DiagnosticsCallback
from fusednn.diagnostics.examination import examine
from fusednn.diagnostics.plots import plot_gradients, plot_history, plot_signal
from fusednn.diagnostics.signals import LayerSignals, Signals

__all__ = [
    "DiagnosticsCallback",
    "LayerSignals",
    "Signals",
    "examine",
    "plot_gradients",
    "plot_history",
    "plot_signal",
]
