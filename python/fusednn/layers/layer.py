"""The base of all layers: names, shapes, and calling one outside of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from fusednn import regularizers
from fusednn._arguments import refuse_unknown
from fusednn.devices import CPU
from fusednn.layers.buffers import Buffers
from fusednn.layers.call_step import CallStep, shape_of_call
from fusednn.layers.layer_weights import LayerWeights
from fusednn.layers.naming import automatic_name
from fusednn.layers.sample_shapes import sample_shape, split_batch_shape
from fusednn.layers.step import Array, Step

BatchShape = tuple[int | None, ...]


class _Called(NamedTuple):
    """What `Layer.call` was given the last time, and what it did with it."""

    x: Array
    y: Array
    steps: list[Step]


class Layer(LayerWeights):
    """A named set of weights, and the operations that it contributes to a model.

    A layer of your own is a subclass with `call` and `backward`, `build` where it has weights, and
    `get_config` where it has arguments:

    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.factor = self.add_weight("factor", input_shape[1:], "ones")
    ...         super().build(input_shape)
    ...     def call(self, x):
    ...         self.x = x
    ...         return x * self.factor.value
    ...     def backward(self, grad):
    ...         self.factor.grad[...] = (grad * self.x).sum(axis=0)
    ...         return grad * self.factor.value

    Keras differentiates `call`; here the gradient is written by hand, and tested best against
    finite differences. A subclass of another layer may override `call` alone, if that does nothing
    but return ``super().call`` of its input: ``super().call(x, training=True)`` in a subclass of
    `Dropout` is the Monte Carlo dropout of Gal and Ghahramani. Layers held by a layer are not
    trained with it: a model is not run or saved with one unless that is its own layer, too.

    Parameters
    ----------
    name : str, optional
        Unique within a model; ``dense``, ``dense_1``, ... if not given.
    trainable : bool
        Whether training may change the weights. As in Keras a change of this attribute reaches a
        model when it is compiled next.
    dtype : {"float32", "float64"}
        Type of weights, inputs (which are converted) and outputs; float32 if not given. Mixed
        precision is not supported.
    activity_regularizer : str or Regularizer, optional
        A penalty on the outputs, divided by the batch size, that training and evaluation add to
        the loss; see `fusednn.regularizers`.
    input_shape : tuple of int, optional
        Shape of one sample; makes this layer the first of a model that is built at once.
    input_dim : int, optional
        Short for ``input_shape=(input_dim,)``.
    batch_input_shape : tuple of int or None, optional
        `input_shape` after a batch axis, which is disregarded.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: str | np.dtype[Any] | type | None = None,
        activity_regularizer: Any = None,
        input_shape: Sequence[int] | int | None = None,
        input_dim: int | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(self, unknown)
        self.dtype = _float_dtype(dtype)
        self.name = automatic_name(type(self).__name__) if name is None else str(name)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.built = False
        self._begin_weights(trainable)
        self._called: _Called | None = None  # by the latest `call`
        self._shapes_of_call: dict[BatchShape, tuple[int, ...]] = {}
        if input_shape is not None and batch_input_shape is not None:
            raise ValueError(
                "`input_shape` and `batch_input_shape` say the same: give one of them. Received: "
                f"input_shape={input_shape}, batch_input_shape={batch_input_shape}"
            )
        if input_dim is not None:
            input_shape = (input_dim,)
        #: Shape of a sample, from the constructor or else from `build`: what `Sequential` falls
        #: back on where this layer comes first.
        self.declared_shape = None if input_shape is None else sample_shape(input_shape)
        if batch_input_shape is not None:
            _, dims = split_batch_shape(batch_input_shape, "batch_input_shape")
            self.declared_shape = sample_shape(dims, "batch_input_shape")

    # ---- shapes

    def build(self, input_shape: BatchShape) -> None:
        """Create the weights for inputs of this shape, batch axis included (None or any length)."""
        known = [dim for dim in input_shape[1:] if dim is not None]
        if self.declared_shape is None and len(known) == len(input_shape) - 1:
            self.declared_shape = tuple(known)
        self.built = True

    def connect(self, before: Sequence[Layer]) -> None:
        """Find the layers that this one refers to among those before it; by default there are none.

        Called where the layer joins a model, before it is built.
        """

    def ensure_built(self, input_shape: BatchShape) -> None:
        """Build once; check that the shape fits in any case."""
        if not self.built:
            self.build(input_shape)
            if not self.built:  # by a subclass that does not call `super().build`: it need not
                Layer.build(self, input_shape)
        self.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output, batch axis included; ValueError where the input does not fit.

        By default that of the input; of a layer that has nothing but a `call` of its own, what
        that returns for zeros.
        """
        if not self.has_own_call() or type(self).steps is not Layer.steps:
            return input_shape
        dims = input_shape[1:]
        if dims not in self._shapes_of_call:
            self._shapes_of_call[dims] = shape_of_call(self, dims)
        return (input_shape[0], *self._shapes_of_call[dims])

    # ---- operations

    def steps(self, *, training: bool, trainable: bool) -> list[Step]:
        """Fresh steps that compute this layer; none is the identity.

        Parameters
        ----------
        training : bool
            Training mode (batch statistics, dropout) or inference mode.
        trainable : bool
            The value of `trainable` that counts: a compiled model keeps the one of its compile.
        """
        return []

    def has_own_call(self) -> bool:
        """Whether a subclass overrides `call`: then it is what models run, not `steps`."""
        return type(self).call is not Layer.call

    def may_have_weights(self) -> bool:
        """Whether there are weights, or will be once the layer is built."""
        return bool(self._variables) or not (self.built or type(self).build is Layer.build)

    def steps_to_run(self, *, training: bool, trainable: bool) -> list[Step]:
        """Return what a model runs for this layer: its own `call`, or `steps`."""
        if self.has_own_call():
            return [CallStep(self, training=training, trainable=trainable)]
        return self.steps(training=training, trainable=trainable)

    def call(self, x: Array, training: bool = False) -> Array:
        """Return the output for a batch; to be overridden by layers of the user.

        Parameters
        ----------
        x : ndarray
            Of the layer's dtype, with a batch axis; it must stay unchanged.
        training : bool
            Training mode or inference mode; an override may leave it out.
        """
        steps = self.steps(training=training, trainable=self._trainable)
        shapes = [x.shape]
        for step in steps:
            shapes.append(step.output_shape(shapes[-1]))
        buffers = Buffers(self.dtype, max(map(math.prod, shapes)), keep_outputs=True)
        y = x
        for step in steps:
            step.bind(y.shape, buffers, grad_input=True)
            step.prepare()
            y = step.forward(y)
        self._called = _Called(x, y, steps)
        return y

    def inherits_backward(self) -> bool:
        """Whether no subclass has a `backward` of its own, to go with its own `call`."""
        return type(self).backward is Layer.backward

    def call_is_only_super(self, x: Array, y: Any) -> bool:
        """Whether the latest `call`, of `x` to `y`, did what that of the base class does."""
        called = self._called
        return called is not None and called.x is x and called.y is y

    def backward(self, grad: Array) -> Array:
        """Write the gradients of the weights for the latest `call`; return that of its input.

        Parameters
        ----------
        grad : ndarray
            Gradient of the loss with respect to what `call` returned; it may be overwritten. The
            gradient of a variable goes to its `grad`: ``self.kernel.grad[...] = x.T @ grad``.
        """
        if self.has_own_call() and type(self).steps is Layer.steps:
            raise NotImplementedError(
                f"{type(self).__name__} must define `backward`: gradients are written by hand."
            )
        if self._called is None:
            raise ValueError(
                f"`backward` of layer '{self.name}' must follow its `call(x, training)`, which "
                "keeps what the gradient needs; `layer(x)` keeps nothing."
            )
        for step in reversed(self._called.steps):
            grad = step.backward(grad)
        return grad

    def __getstate__(self) -> dict[str, Any]:
        # A step's arrays are views of each other, which a copy would tear apart.
        return self.__dict__ | {"_called": None}

    def __call__(self, x: ArrayLike, training: bool = False) -> Array:
        """Apply the layer to a batch and return a new array; builds the layer at first use.

        A trainable `BatchNormalization` moves its statistics where `training` is true. Outside of
        a model a layer computes on the CPU.
        """
        if isinstance(x, Layer):
            raise TypeError(
                "`x` must be an array, for there is no functional API: give layers to a model, "
                f"as in Sequential([Input((8,)), Dense(3)]). Received: x={x!r}"
            )
        start = y = np.ascontiguousarray(x, dtype=self.dtype)
        self.ensure_built((None, *y.shape[1:]))
        for variable in self._variables:
            variable.move_to(CPU)
        buffers = Buffers(self.dtype, y.size, keep_outputs=True)
        for step in self.steps_to_run(training=training, trainable=self._trainable):
            step.bind(y.shape, buffers, grad_input=False)
            step.prepare()
            y = step.forward(y)
        return y.copy() if np.may_share_memory(y, start) else y

    # ---- configuration

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal, unbuilt layer."""
        config = {"name": self.name, "trainable": self._trainable, "dtype": self.dtype.name}
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a layer from `get_config`'s result."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _float_dtype(dtype: str | np.dtype[Any] | type | None) -> np.dtype[Any]:
    try:
        resolved = np.dtype(np.float32 if dtype is None else dtype)
    except TypeError:
        resolved = None  # such as "mixed_float16"
    if resolved is None or resolved not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"`dtype` must be float32 or float64. Received: dtype={dtype}")
    return resolved
