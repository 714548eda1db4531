"""``x * gate(x)``, with a gate between 0 and 1: not monotonic, so the derivatives need x."""

from __future__ import annotations

import math

import numpy as np

from fusednn.activations.base import Array, Elementwise
from fusednn.activations.error_function import write_normal_distribution
from fusednn.activations.sigmoids import write_sigmoid


class Gated(Elementwise):
    """Base of ``y = x * gate(x)``; a subclass defines `gate` and `gate_slope`."""

    needs_input = True

    def gate(self, x: Array, out: Array, work: Array) -> None:
        """Write the gate to `out`, which lies apart from `x` and `work`."""
        raise NotImplementedError(f"{type(self).__name__} must define `gate`.")

    def gate_slope(self, x: Array, out: Array, work: Array) -> None:
        """Write the gate's derivative to ``work[0]``; `out` holds the gate and must keep it."""
        raise NotImplementedError(f"{type(self).__name__} must define `gate_slope`.")

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        target = np.empty_like(x) if out is None or np.may_share_memory(out, x) else out
        self.gate(x, target, self._work(x, work))
        return np.multiply(x, target, out=target if out is None else out)

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """``gate(x) + x * gate'(x)``."""
        assert x is not None
        self.gate(x, out, work)
        self.gate_slope(x, out, work)
        work[0] *= x
        out += work[0]


class SiLU(Gated):
    """``x * sigmoid(x)``, also called swish (Ramachandran et al. 2017)."""

    name = "silu"
    work_arrays = 1

    def gate(self, x: Array, out: Array, work: Array) -> None:
        """Write the logistic function."""
        write_sigmoid(x, out)

    def gate_slope(self, x: Array, out: Array, work: Array) -> None:
        """Its derivative, ``s * (1 - s)``."""
        np.subtract(1, out, out=work[0])
        work[0] *= out


class HardSiLU(Gated):
    """``x * hard_sigmoid(x)``, also called hard swish (Howard et al. 2019)."""

    name = "hard_silu"
    work_arrays = 2

    def gate(self, x: Array, out: Array, work: Array) -> None:
        """``min(max(x / 6 + 1 / 2, 0), 1)``."""
        np.divide(x, 6, out=out)
        out += 0.5
        np.clip(out, 0, 1, out=out)

    def gate_slope(self, x: Array, out: Array, work: Array) -> None:
        """1 / 6 where the gate is neither 0 nor 1."""
        slope = np.greater(out, 0, out=work[0])
        slope *= np.less(out, 1, out=work[1])
        slope *= 1 / 6


class Mish(Gated):
    """``x * tanh(softplus(x))`` (Misra 2019)."""

    name = "mish"
    work_arrays = 2

    def gate(self, x: Array, out: Array, work: Array) -> None:
        """tanh(softplus(x)) = (w**2 + 2 w) / (w**2 + 2 w + 2), w = exp(x)."""
        # From exp(min(x, 20)) on the gate is 1, and w**2 may not overflow.
        w = np.minimum(x, 20, out=work[0])
        np.exp(w, out=w)
        np.add(w, 2, out=out)
        out *= w
        np.add(out, 2, out=w)
        out /= w

    def gate_slope(self, x: Array, out: Array, work: Array) -> None:
        """``(1 - gate**2) * sigmoid(x)``."""
        slope, logistic = work
        np.multiply(out, out, out=slope)
        np.subtract(1, slope, out=slope)
        slope *= write_sigmoid(x, logistic)


class GELU(Gated):
    """``x * P(X <= x)`` for a standard normal X (Hendrycks and Gimpel 2016).

    Parameters
    ----------
    approximate
        Use ``(1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2`` for the probability. False by
        default, as in Keras and PyTorch.
    """

    name = "gelu"
    work_arrays = 2
    config_names = ("approximate",)

    def __init__(self, approximate: bool = False) -> None:
        self.approximate = bool(approximate)

    def gate(self, x: Array, out: Array, work: Array) -> None:
        """Write the probability."""
        if not self.approximate:
            write_normal_distribution(x, out, work)
            return
        # (1 + tanh(z)) / 2 = sigmoid(2 z): without it, the left side would cancel.
        argument = np.multiply(x, x, out=work[0])
        argument *= 2 * _CUBIC
        argument += 2 * _STEEPNESS
        argument *= x
        write_sigmoid(argument, out)

    def gate_slope(self, x: Array, out: Array, work: Array) -> None:
        """Write the normal density, or that of the approximation."""
        slope = np.multiply(x, x, out=work[0])
        if not self.approximate:
            slope *= -0.5
            np.exp(slope, out=slope)
            slope *= 1 / math.sqrt(2 * math.pi)
            return
        slope *= 6 * _CUBIC
        slope += 2 * _STEEPNESS
        slope *= out
        slope *= np.subtract(1, out, out=work[1])


_STEEPNESS = math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _STEEPNESS
