"""Fixed scaling of inputs: by numbers, or to mean 0 and variance 1 of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn.devices import CPU
from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.step import Array, Shape, Step

#: The smallest standard deviation that is divided by, as in Keras.
_EPSILON = 1e-7


class Rescaling(Layer):
    """``y = x * scale + offset``.

    Parameters
    ----------
    scale, offset : float or array_like
        Numbers, or one for each index of the last axis.
    **kwargs
        Of `Layer`.
    """

    def __init__(self, scale: ArrayLike, offset: ArrayLike = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = _numbers("scale", scale)
        self.offset = _numbers("offset", offset)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        scale, offset = (np.asarray(v, self.dtype) for v in (self.scale, self.offset))
        return [AffineStep(lambda: (scale, offset))]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return super().get_config() | {
            "scale": np.asarray(self.scale).tolist(),
            "offset": np.asarray(self.offset).tolist(),
        }


class Normalization(Layer):
    """``y = (x - mean) / max(sqrt(variance), 1e-7)``, per index of `axis`.

    Parameters
    ----------
    axis : int, sequence of int or None
        The axes that have a mean and a variance for each index; None: one for all elements.
    mean, variance : float or array_like, optional
        Given together, or found by `adapt`.
    invert : bool
        Compute the inverse, ``y = x * max(sqrt(variance), 1e-7) + mean``.
    **kwargs
        Of `Layer`.

    Notes
    -----
    Variables where mean and variance are not given: mean, variance, count, none of them trainable;
    before `adapt` they are 0, 1 and 0, and the layer is the identity.
    """

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise ValueError(
                "`mean` and `variance` must be given together. "
                f"Received: mean={mean!r}, variance={variance!r}"
            )
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        self.input_mean = None if mean is None else _numbers("mean", mean)
        self.input_variance = None if variance is None else _numbers("variance", variance)
        self.invert = bool(invert)
        self._kept: tuple[int, ...] = ()
        self._built_shape: BatchShape = ()

    def build(self, input_shape: BatchShape) -> None:
        """Create mean, variance and count, unless the first two are given."""
        rank = len(input_shape)
        if any(not -rank <= axis < rank for axis in self.axis):
            raise ValueError(
                f"`axis` of layer '{self.name}' must hold axes of its input, of rank {rank}. "
                f"Received: axis={self.axis}"
            )
        self._kept = tuple(sorted(axis % rank for axis in self.axis))
        self._built_shape = input_shape
        shape: list[int] = []
        for axis in self._kept:
            length = input_shape[axis]
            if length is None:
                raise ValueError(
                    f"Axis {axis} of the input of layer '{self.name}' must have a known length. "
                    f"Received: input_shape={input_shape}"
                )
            shape.append(length)
        if self.input_mean is None:
            for name, value in (("mean", 0), ("variance", 1), ("count", 0)):
                self.add_weight(
                    name,
                    () if name == "count" else tuple(shape),
                    lambda shape, dtype, value=value: np.full(shape, value, dtype),
                    trainable=False,
                )
        super().build(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output: that of the input."""
        if self.built and (
            len(input_shape) != len(self._built_shape)
            or any(input_shape[axis] != self._built_shape[axis] for axis in self._kept)
        ):
            raise ValueError(
                f"The input of layer '{self.name}' must fit the shape {self._built_shape}. "
                f"Received: input_shape={input_shape}"
            )
        return input_shape

    def adapt(self, data: ArrayLike | Iterable[ArrayLike]) -> None:
        """Set mean and variance to those of `data`, exactly: all batches are merged in float64.

        Parameters
        ----------
        data : array_like, or iterable of array_like
            Samples, or batches of samples (of pairs the first), which need not fit in memory.

        Raises
        ------
        ValueError
            The layer was given mean and variance, a batch has another shape than the input, or
            there are no samples. Mean and variance stay as they were.
        """
        if self.input_mean is not None:
            raise ValueError(
                f"Layer '{self.name}' was given `mean` and `variance`, so it cannot `adapt`."
            )
        count, mean, m2 = 0, np.zeros(()), np.zeros(())
        for batch in [data] if isinstance(data, np.ndarray) else _batches(data):
            x = np.asarray(batch, np.float64)
            if not x.size:
                continue
            self.ensure_built((None, *x.shape[1:]))
            axes = tuple(axis for axis in range(x.ndim) if axis not in self._kept)
            n = x.size // max(1, int(np.prod([x.shape[axis] for axis in self._kept])))
            own = x.mean(axis=axes)
            delta = own - mean
            mean = mean + delta * (n / (count + n))
            m2 = m2 + x.var(axis=axes) * n + delta**2 * (count * n / (count + n))
            count += n
        if not count:
            raise ValueError("`data` must hold at least one sample. Received: none")
        for variable, value in zip(self._variables, (mean, m2 / count, count), strict=True):
            variable.assign(np.asarray(value, variable.dtype))

    def _statistics(self) -> tuple[Array, Array]:
        """Return mean and variance in shapes that broadcast over the input."""
        if self.input_mean is None:
            shape = [
                length if axis in self._kept else 1 for axis, length in enumerate(self._built_shape)
            ]
            lengths = [1 if n is None else n for n in shape]
            mean, variance = (v.numpy() for v in self._variables[:2])
            return mean.reshape(lengths), variance.reshape(lengths)
        return np.asarray(self.input_mean), np.asarray(self.input_variance)

    def _coefficients(self) -> tuple[Array, Array]:
        mean, variance = self._statistics()
        std = np.maximum(np.sqrt(variance), _EPSILON).astype(self.dtype)
        mean = mean.astype(self.dtype)
        return (std, mean) if self.invert else (mean, std)

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """One step."""
        return [(AffineStep if self.invert else StandardizeStep)(self._coefficients)]

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal, unbuilt layer."""
        return super().get_config() | {
            "axis": list(self.axis) or None,
            "mean": None if self.input_mean is None else np.asarray(self.input_mean).tolist(),
            "variance": (
                None if self.input_variance is None else np.asarray(self.input_variance).tolist()
            ),
            "invert": self.invert,
        }


class AffineStep(Step):
    """y = x * a + b; `coefficients` returns the two, asked for at each batch."""

    runs_on_gpu = True

    def __init__(self, coefficients: Any) -> None:
        self._coefficients = coefficients

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Take arrays for y, and on a GPU for the coefficients."""
        self._y = buffers.output(input_shape)
        self._device = buffers.device
        self._a, self._b = map(self._device.array, self._coefficients())

    def prepare(self) -> None:
        """Ask for the coefficients."""
        given = self._coefficients()
        if self._device is CPU:
            self._a, self._b = given
            return
        self._device.write(self._a, given[0])
        self._device.write(self._b, given[1])

    def forward(self, x: Array) -> Array:
        """Return y."""
        np.multiply(x, self._a, out=self._y)
        return np.add(self._y, self._b, out=self._y)

    def backward(self, grad: Array) -> Array:
        """Return grad_x, in the place of `grad`."""
        return np.multiply(grad, self._a, out=grad)


class StandardizeStep(AffineStep):
    """y = (x - a) / b, without the cancellation of the affine form."""

    def forward(self, x: Array) -> Array:
        """Return y."""
        np.subtract(x, self._a, out=self._y)
        return np.divide(self._y, self._b, out=self._y)

    def backward(self, grad: Array) -> Array:
        """Return grad_x, in the place of `grad`."""
        return np.divide(grad, self._b, out=grad)


def _numbers(name: str, value: ArrayLike) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"`{name}` must hold finite numbers. Received: {name}={value!r}")
    return array.astype(np.float64)


def _batches(data: Any) -> Iterable[Any]:
    if isinstance(data, (list, tuple)) and not any(isinstance(part, np.ndarray) for part in data):
        yield np.asarray(data)
        return
    for batch in data:
        yield batch[0] if isinstance(batch, tuple) else batch
