"""What was seen of each layer, and sentences on what looks wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
    gradient_std : float or None
        Standard deviation of the gradient of a single sample's loss with respect to the outputs;
        to the logits where the loss takes the place of the last activation. None where training
        has no use for it: below the first layer that trains.
    weight_gradient : float or None
        Norm of the gradient of the weights over that of the weights; None where none train.
    """

    name: str
    kind: str
    mean: float
    std: float
    saturated: float | None
    dead: float | None
    gradient_std: float | None
    weight_gradient: float | None


@dataclass(frozen=True)
class Signals:
    """All layers of a model, front to back."""

    layers: tuple[LayerSignals, ...]

    def findings(self) -> list[str]:
        """Return one sentence for each thing that looks wrong; nothing if all is well."""
        found = []
        for layer in self.layers:
            numbers = (layer.mean, layer.std, layer.gradient_std or 0.0)
            if not all(map(math.isfinite, numbers)):
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
            found += _gradients_of(weighted[0], weighted[-1])
        return found

    def __str__(self) -> str:
        lines = [
            f"{'layer':<28}{'mean':>10}{'std':>10}{'saturated':>11}{'dead':>7}{'gradient':>11}"
        ]
        for x in self.layers:
            parts = ["" if v is None else f"{v:.0%}" for v in (x.saturated, x.dead)]
            lines.append(
                f"{x.name[:27]:<28}{x.mean:>10.3g}{x.std:>10.3g}{parts[0]:>11}{parts[1]:>7}"
                + ("" if x.gradient_std is None else f"{x.gradient_std:>11.2e}")
            )
        return "\n".join(lines + self.findings())


def _gradients_of(first: LayerSignals, last: LayerSignals) -> list[str]:
    ratio = (first.gradient_std or 0.0) / max(last.gradient_std or 0.0, 1e-300)
    where = f"at layer '{first.name}' they are {ratio:.0e}"
    if ratio < 1e-3:
        return [f"Vanishing gradients: {where} of what they are at layer '{last.name}'."]
    if ratio > 1e3:
        return [f"Exploding gradients: {where} times what they are at layer '{last.name}'."]
    return []
