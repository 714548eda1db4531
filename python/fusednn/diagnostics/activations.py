"""What the activation of a layer is like: whether it has bounds, whether it can die."""

from __future__ import annotations

from fusednn.layers import Layer, LeakyReLU, ReLU

#: Outputs of a bounded function count as saturated within this share of its range of a bound.
_NEAR_A_BOUND = 0.02
_BOUNDS = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
_RECTIFIERS = ("relu", "relu6")


def unsaturated(layer: Layer) -> tuple[float, float] | None:
    """Return between which outputs a layer is not saturated; None where it has no bounds."""
    bounds = _BOUNDS.get(_name_of_activation(layer))
    if bounds is None:
        return None
    low, high = bounds
    margin = _NEAR_A_BOUND * (high - low)
    return low + margin, high - margin


def can_die(layer: Layer) -> bool:
    """Whether the layer's units may be 0, without a gradient, for all samples."""
    return _name_of_activation(layer) in _RECTIFIERS


def _name_of_activation(layer: Layer) -> str:
    if isinstance(layer, (ReLU, LeakyReLU)):
        return "relu" if layer.negative_slope == 0 else "leaky_relu"
    return str(getattr(getattr(layer, "activation", None), "name", "linear"))
