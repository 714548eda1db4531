"""Rectifiers that fall off exponentially below 0, and the exponential itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fusednn._arguments import check_number
from fusednn.activations.base import Array, Elementwise


class ELU(Elementwise):
    """``x`` where x > 0, else ``alpha * (exp(x) - 1)`` (Clevert et al. 2015).

    dx = grad where y > 0, else grad * (y + alpha).

    Parameters
    ----------
    alpha
        >= 0, because the derivative is found from the sign of y.
    """

    name = "elu"
    work_arrays = 1
    config_names: ClassVar[tuple[str, ...]] = ("alpha",)
    #: Factor of the whole function: 1, but in `SELU`.
    scale: ClassVar[float] = 1.0

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_number("alpha", alpha, minimum=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        # One of the two parts is 0 everywhere.
        low = np.minimum(x, 0, out=self._work(x, work)[0])
        np.expm1(low, out=low)
        low *= self.scale * self.alpha
        out = np.maximum(x, 0, out=out)
        out *= self.scale
        out += low
        return out

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``min(y, 0)`` plus what it needs to meet the slope on each side."""
        low = self.scale * self.alpha
        np.minimum(y, 0, out=out)
        out += low
        if low != self.scale:
            step = np.heaviside(y, 0, out=work[0])
            step *= self.scale - low
            out += step


class SELU(ELU):
    """``1.0507 * elu(x, alpha=1.6733)``, self-normalising (Klambauer et al. 2017)."""

    name = "selu"
    scale = 1.0507009873554805

    def __init__(self) -> None:
        super().__init__(1.6732632423543772)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments; there are none."""
        return {}


class CELU(Elementwise):
    """``max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`` (Barron 2017).

    dx = grad where y > 0, else grad * (y / alpha + 1).

    Parameters
    ----------
    alpha
        > 0.
    """

    name = "celu"
    work_arrays = 1
    config_names = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_number("alpha", alpha, above=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        low = np.minimum(x, 0, out=self._work(x, work)[0])
        low /= self.alpha
        np.expm1(low, out=low)
        low *= self.alpha
        out = np.maximum(x, 0, out=out)
        out += low
        return out

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``min(y, 0) / alpha + 1``."""
        np.minimum(y, 0, out=out)
        out /= self.alpha
        out += 1


class Exponential(Elementwise):
    """``exp(x)``; infinite from 89 on in float32, without a warning."""

    name = "exponential"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        with np.errstate(over="ignore"):
            return np.exp(x, out=out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """Write the function itself."""
        np.copyto(out, y)
