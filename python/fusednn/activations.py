"""Activation functions with Keras' names and defaults, and their derivatives.

Each is an object: ``activations.relu(x)`` calls it, `forward` and `backward` are what layers use.
All derivatives are functions of the output y, so that y may take the place of x in memory.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusednn import ops
from fusednn._arguments import check_number
from fusednn._serialization import Configurable, Registry, serialize

__all__ = [
    "ELU",
    "SELU",
    "Activation",
    "LeakyReLU",
    "Linear",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "elu",
    "get",
    "leaky_relu",
    "linear",
    "relu",
    "selu",
    "serialize",
    "sigmoid",
    "softmax",
    "tanh",
]

Array = NDArray[Any]


class Activation(Configurable):
    """Base class: a function of arrays and its derivative.

    Attributes
    ----------
    name : str
        Keras' name of the function.
    """

    name: ClassVar[str]
    #: Whether an array for intermediate results is of use, besides `out`.
    needs_work: ClassVar[bool] = False

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """Return the function of `x`, a floating-point array.

        Parameters
        ----------
        x
            Input; softmax is over its last axis.
        out
            Where the result goes, of the shape and dtype of `x`; it may be `x` itself. None
            allocates it (`linear` returns `x`).
        work
            Where `needs_work`: an array like `x`, apart from it, to be overwritten. None allocates
            it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `forward`.")

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """Return the gradient with respect to `x`.

        Parameters
        ----------
        grad
            Gradient with respect to `y`.
        x, y
            Input and output of `forward`. Only y is read: x may be overwritten, or None.
        out
            Where the result goes; it may be `grad`. None allocates it (`linear` returns `grad`).
        work
            As in `forward`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `backward`.")

    def __call__(self, x: ArrayLike) -> Array:
        """Return `forward` of anything array-like; what is not floating-point becomes float32."""
        array = np.asarray(x)
        # Kind V: bfloat16.
        return self.forward(array if array.dtype.kind in "fV" else array.astype(np.float32))


class Linear(Activation):
    """The identity."""

    name = "linear"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return _copied(x, out)

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        return _copied(grad, out)


class LeakyReLU(Activation):
    """``x`` where x > 0, else ``negative_slope * x``; through the fused kernels.

    Parameters
    ----------
    negative_slope
        >= 0, because the derivative is found from the sign of y. Keras' function has 0.2, its
        layer 0.3, PyTorch 0.01.
    """

    name = "leaky_relu"
    config_names: ClassVar[tuple[str, ...]] = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.2) -> None:
        self.negative_slope = check_number("negative_slope", negative_slope, minimum=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return ops.leaky_relu(x, self.negative_slope, out=out)

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        return ops.leaky_relu_backward(grad, y, self.negative_slope, out=out)


class ReLU(LeakyReLU):
    """``max(x, 0)``; the derivative at 0 is 0."""

    name = "relu"

    def __init__(self) -> None:
        super().__init__(0.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments; there are none."""
        return {}


class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``: accurate on both sides, finite for all x. dx = grad * y * (1 - y)."""

    name = "sigmoid"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        out = np.negative(x, out=out)
        with np.errstate(over="ignore"):  # the reciprocal of infinity is the right 0
            np.exp(out, out=out)
        out += 1
        return np.reciprocal(out, out=out)

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        slope = np.subtract(1, y, out=_apart(out, grad, y))
        slope *= y
        return np.multiply(grad, slope, out=slope if out is None else out)


class Tanh(Activation):
    """The hyperbolic tangent. dx = grad * (1 - y**2)."""

    name = "tanh"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        return np.tanh(x, out=out)

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        slope = np.multiply(y, y, out=_apart(out, grad, y))
        np.subtract(1, slope, out=slope)
        return np.multiply(grad, slope, out=slope if out is None else out)


class Softmax(Activation):
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` over the last axis.

    dx = y * (grad - sum(grad * y)).
    """

    name = "softmax"

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        highest = x.max(axis=-1, keepdims=True, initial=-np.inf)
        with np.errstate(invalid="ignore"):  # infinite inputs give NaN, without a warning
            out = np.subtract(x, highest, out=out)
            np.exp(out, out=out)
            out /= out.sum(axis=-1, keepdims=True)
        return out

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        mean = np.einsum("...i,...i->...", grad, y)[..., None]
        out = np.subtract(grad, mean, out=out)
        out *= y
        return out


class ELU(Activation):
    """``x`` where x > 0, else ``alpha * (exp(x) - 1)`` (Clevert et al. 2015).

    dx = grad where y > 0, else grad * (y + alpha).

    Parameters
    ----------
    alpha
        >= 0, because the derivative is found from the sign of y.
    """

    name = "elu"
    needs_work = True
    config_names: ClassVar[tuple[str, ...]] = ("alpha",)
    #: Factor of the whole function: 1, but in `SELU`.
    scale: ClassVar[float] = 1.0

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_number("alpha", alpha, minimum=0)

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """See `Activation.forward`."""
        # One of the two parts is 0 everywhere.
        low = np.minimum(x, 0, out=work)
        np.expm1(low, out=low)
        low *= self.scale * self.alpha
        out = np.maximum(x, 0, out=out)
        out *= self.scale
        out += low
        return out

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        low = self.scale * self.alpha
        slope = np.minimum(y, 0, out=_apart(out, grad, y))
        slope += low
        if low != self.scale:
            step = np.heaviside(y, 0, out=work)
            step *= self.scale - low
            slope += step
        return np.multiply(grad, slope, out=slope if out is None else out)


class SELU(ELU):
    """``1.0507 * elu(x, alpha=1.6733)``, self-normalising (Klambauer et al. 2017)."""

    name = "selu"
    scale = 1.0507009873554805

    def __init__(self) -> None:
        super().__init__(1.6732632423543772)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments; there are none."""
        return {}


def _copied(source: Array, out: Array | None) -> Array:
    if out is None or out is source:
        return source
    np.copyto(out, source)
    return out


def _apart(out: Array | None, *inputs: Array) -> Array | None:
    """Return `out` where it can hold an intermediate result while `inputs` are still read."""
    if out is None or any(np.may_share_memory(out, array) for array in inputs):
        return None
    return out


linear = Linear()
relu = ReLU()
leaky_relu = LeakyReLU()
sigmoid = Sigmoid()
tanh = Tanh()
softmax = Softmax()
elu = ELU()
selu = SELU()

_registry: Registry[Activation] = Registry(
    "activation",
    Activation,
    [Linear, ReLU, LeakyReLU, Sigmoid, Tanh, Softmax, ELU, SELU],
    {"leaky_relu": LeakyReLU},
)


def get(identifier: Any) -> Activation:
    """Return an activation.

    Parameters
    ----------
    identifier
        An `Activation` (returned as it is), a class, a name (``"relu"``, ``"leaky_relu"``, ...), a
        dictionary ``{"class_name": ..., "config": ...}``, or None: `linear`.

    Raises
    ------
    ValueError
        It is none of these.
    """
    return linear if identifier is None else _registry.get(identifier)
