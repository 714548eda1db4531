"""Models of the user: subclasses of `Sequential` that override `call`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from fusednn import devices
from fusednn.layers.buffers import Buffers
from fusednn.layers.layer import Layer
from fusednn.layers.step import Array, Shape, Step
from fusednn.models.plan import Plan, new_plan

if TYPE_CHECKING:
    from fusednn.models.sequential import Sequential

Flags = tuple[bool, ...] | None


class _Called(NamedTuple):
    """What `OwnCall.call` was given the last time, and what it did with it."""

    x: Array
    y: Array
    plan: Plan


class OwnCall:
    """Base of `Sequential`: `call` and `backward`, which a subclass may override."""

    def __init__(self) -> None:
        super().__init__()
        self._called: _Called | None = None
        self._flags: Flags = None  # which layers train in the `call` that runs
        self._inner: dict[tuple[int, Flags], Plan] = {}
        self._own_shapes: dict[Shape, Shape] = {}

    def has_own_call(self) -> bool:
        """Whether a subclass overrides `call`: then that is what runs, everywhere."""
        return type(self).call is not OwnCall.call

    def call(self, x: Array, training: bool = False) -> Array:
        """Return the output of the layers for a batch; to be overridden by models of the user.

        Where a subclass overrides it, `model(x)`, `predict`, `evaluate` and `fit` run the override.
        Training needs its gradient: a subclass that does nothing but
        ``return super().call(x, training=...)``, with the `x` that it got, inherits it; any other
        one defines `backward`, as a `Layer` does.

        Parameters
        ----------
        x : ndarray
            Of the model's dtype and input shape; it must stay unchanged.
        training : bool
            Training mode or inference mode; an override may leave it out.

        Returns
        -------
        ndarray
            Valid until the next call.
        """
        model = _model(self)
        x = np.ascontiguousarray(x, model.dtype)
        if x.shape[1:] != model._sample_shape:
            raise ValueError(
                f"`x` must have shape {model.input_shape}, the input of model '{model.name}'. "
                f"Received: x of shape {x.shape}"
            )
        flags = None
        if training:
            flags = model._trainable_now() if self._flags is None else self._flags
        plan = self._inner.get((len(x), flags))
        if plan is None:
            plan = new_plan(
                model._leaves, x.shape, model.dtype, trained=flags, logits_activation=None
            )
            self._inner[len(x), flags] = plan
        y = plan.forward(x)
        self._called = _Called(x, y, plan)
        return y

    def backward(self, grad: Array) -> None:
        """Write the gradients of all weights that train, for the latest `call`.

        Parameters
        ----------
        grad : ndarray
            Gradient of the loss with respect to what `call` returned. The gradient of a variable
            goes to its `grad`; those that are not written are 0. An override may call
            ``super().backward`` with the gradient of what ``super().call`` returned; where it runs
            layers one by one, by ``layer.call(x, training)``, it calls ``layer.backward(grad)`` in
            the other order.
        """
        assert self._called is not None
        plan = self._called.plan
        np.copyto(plan.grad_output, grad)
        plan.backward()

    def own_output_shape(self, dims: Shape) -> Shape:
        """Return the shape of a sample that an overridden `call` returns, found out with zeros."""
        if dims not in self._own_shapes:
            before, self._flags = self._flags, None
            x = np.zeros((1, *dims), _model(self).dtype)
            self._own_shapes[dims] = np.shape(run_call(self, x, training=False))[1:]
            self._flags, self._called = before, None
        return self._own_shapes[dims]

    def _forget_calls(self) -> None:
        self._inner.clear()
        self._own_shapes.clear()
        self._called = None


class ModelCall:
    """A model's own `call` in the place of a layer of a plan."""

    activity_regularizer = None

    def __init__(self, model: Sequential, flags: Flags) -> None:
        if devices.current() is not devices.CPU:
            raise NotImplementedError(
                f"A model with a `call` of its own, as {type(model).__name__} has, runs on the CPU "
                f"alone. Received: device {devices.current().name}"
            )
        self._model = model
        self._flags = flags
        self.name = model.name

    def steps_to_run(self, *, training: bool, trainable: bool) -> list[Step]:
        """Return one step."""
        return [ModelStep(self._model, self._flags)]


class ModelStep(Step):
    """A model's own `call` and its `backward`."""

    def __init__(self, model: Sequential, flags: Flags) -> None:
        self._model = model
        self._flags = flags
        self.has_gradients = flags is not None and any(flags)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of what `call` returns."""
        return (input_shape[0], *self._model.own_output_shape(input_shape[1:]))

    def bind(self, input_shape: Shape, buffers: Buffers, *, grad_input: bool) -> None:
        """Remember the shape."""
        self._shape = self.output_shape(input_shape)

    @property
    def penalty(self) -> float:
        """What activity regularizers of the layers add to the loss."""
        called = self._model._called
        return 0.0 if called is None else called.plan.activity_penalty()

    def forward(self, x: Array) -> Array:
        """Return what `call` returns, of the model's dtype."""
        model = self._model
        model._flags, model._called = self._flags, None
        try:
            y = run_call(model, x, training=self._flags is not None)
        finally:
            model._flags = None
        self._x = x
        self._y = np.ascontiguousarray(y, dtype=model.dtype)
        if self._y.shape != self._shape:
            raise ValueError(
                f"`call` of model '{model.name}' must return an array of the same shape for every "
                f"batch of the same shape, here {self._shape}. Received: shape {self._y.shape}"
            )
        return self._y

    def undo(self) -> None:
        """Put back what the layers changed."""
        if self._model._called is not None:
            self._model._called.plan.undo()

    def backward(self, grad: Array) -> Array:
        """Write the gradients by `backward`; nobody needs that of the input."""
        model, called = self._model, self._model._called
        if type(model).backward is OwnCall.backward and not (
            called is not None and called.x is self._x and called.y is self._y
        ):
            raise NotImplementedError(
                f"{type(model).__name__} must define `backward`: its `call` does more than "
                "`super().call(x, training)`, and gradients are written by hand."
            )
        for variable in model._trained_variables():
            variable.grad.fill(0)
        model.backward(grad)
        return grad


def run_call(model: Any, x: Array, *, training: bool) -> Any:
    """Call a model's own `call`, which may take `training` or not."""
    parameters = inspect.signature(model.call).parameters
    takes = "training" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )
    return model.call(x, training=training) if takes else model.call(x)


def refuse_held_layers(layers: Sequence[Layer]) -> None:
    """Raise where one with a `call` of its own holds others with weights, which would be lost."""
    known = set(map(id, layers))
    for layer in layers:
        if not layer.has_own_call():
            continue
        for value in vars(layer).values():
            for held in _layers_in(value):
                if id(held) not in known and held.may_have_weights():
                    raise NotImplementedError(
                        f"Layer '{layer.name}' must not hold layer '{held.name}', unless the model "
                        "has that one, too: its weights would be neither trained nor saved. Make "
                        "them by `add_weight`, or run the model's layers in a `call` of the model."
                    )


def _layers_in(value: Any) -> Iterator[Layer]:
    if isinstance(value, Layer):
        yield value
    elif isinstance(value, OwnCall):
        yield from _model(value)._leaves
    elif isinstance(value, (list, tuple, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _layers_in(one)


def refuse_own_call(model: Any, what: str) -> None:
    """Raise where a model has a `call` of its own, which `what` would disregard."""
    if model.has_own_call():
        raise NotImplementedError(
            f"{what} must get a model without a `call` of its own. "
            f"Received: a {type(model).__name__}"
        )


def _model(own: OwnCall) -> Sequential:
    return cast("Sequential", own)
