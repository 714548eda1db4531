"""A model that is a list of layers."""

from __future__ import annotations

import operator
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from fusednn import devices
from fusednn.layers import InputLayer, Layer
from fusednn.layers.layer import BatchShape
from fusednn.layers.naming import automatic_name
from fusednn.layers.sample_shapes import sample_shape
from fusednn.models.data import Array, as_inputs
from fusednn.models.described import Described
from fusednn.models.model import Model
from fusednn.models.nesting import check_distinct, contains, leaves_of
from fusednn.models.own_call import ModelCall, OwnCall, refuse_held_layers, refuse_own_call
from fusednn.models.penalties import Penalties
from fusednn.models.plan import Plan, new_plan
from fusednn.models.training import Trainer
from fusednn.models.weighted import Weighted
from fusednn.variable import Variable

#: Plans of this many (batch size, mode) combinations keep their memory; older ones are dropped.
_PLANS_KEPT = 8


class _Place(NamedTuple):
    """Where the weights were found the last time."""

    device: devices.Device
    moves: int
    arrays: list[Array]


class Sequential(Model, Described, OwnCall, Trainer, Weighted):
    """A stack of layers, each fed with the output of the one before.

    Parameters
    ----------
    layers : iterable of Layer or Sequential, optional
        May start with `Input`, or with a layer that was given `input_shape`; else the input's
        shape is taken from the first data. Layers may belong to other models: they are shared,
        as in Keras, with their weights. A `Sequential` may be a layer of another one.
    trainable : bool
        False freezes all layers.
    name : str, optional

    Examples
    --------
    >>> from fusednn.layers import BatchNormalization, Dense, Input, LeakyReLU
    >>> model = Sequential([Input((64,)), Dense(100), BatchNormalization(), LeakyReLU(), Dense(10)])
    >>> model.count_params()
    7910

    Notes
    -----
    Neighbours that one kernel can compute run as one (see `plan.Plan`); layers and weights are
    not affected. All arrays of a training step are allocated once for each batch size; a model is
    hence for one thread at a time. `copy.deepcopy` gives a model with weights of its own.

    A subclass may override `call`, which then is what runs everywhere.
    """

    def __init__(
        self,
        layers: Iterable[Layer | Sequential] | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = automatic_name(type(self).__name__) if name is None else name
        self._input: InputLayer | None = None
        self._layers: list[Layer] = []
        self._shapes: list[BatchShape] = []  # of the input, then of each layer's output; or empty
        self._plans: OrderedDict[tuple[int, tuple[bool, ...] | None], Plan] = OrderedDict()
        self._latest: tuple[int, tuple[bool, ...] | None, Plan] | None = None
        self._nests = False
        self._leaves: list[Layer] = []  # what runs: layers, with those of nested models
        self._trained: tuple[bool, ...] = ()  # each one's `trainable`, as of compile
        self._regularized: Penalties | None = None
        self._lists: tuple[tuple[Array, ...], tuple[Variable, ...]] | None = None
        self._place: _Place | None = None
        for layer in layers or ():
            self.add(layer)
        if not trainable:
            self.trainable = False

    # ---- the list of layers

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input layer."""
        return list(self._layers)

    def add(self, layer: Layer | Sequential) -> None:
        """Append a layer, or a model as one; built at once where the shape of its input is known.

        Raises
        ------
        TypeError
            If it is neither.
        ValueError
            If a layer of this name is there, an input layer comes second, the layer does not fit
            the shape that it would get, or a layer would be in the model twice. The model stays as
            it was.
        """
        if not isinstance(layer, (Layer, Sequential)):
            raise TypeError(f"`layer` must be a Layer or a Sequential. Received: {layer!r}")
        if isinstance(layer, InputLayer):
            if self._input is not None or self._layers:
                raise ValueError(
                    f"An Input must come first and only once in a Sequential. Received: {layer!r} "
                    f"after {len(self._layers)} layers"
                )
            self._input = layer
            self._shapes = [layer.batch_shape]
            return
        if contains(layer, self):
            raise ValueError(f"`layer` must not hold the model itself. Received: {layer!r}")
        leaves = leaves_of([*self._layers, layer])
        check_distinct(leaves)
        if any(layer.name == other.name for other in self._layers):
            raise ValueError(
                "`layer` must have a name that no other layer of the model has. "
                f"Received: {layer!r}"
            )
        if self._layers and layer.dtype != self.dtype:
            raise ValueError(
                f"`layer` must have the dtype of the other layers, {self.dtype}: mixed precision "
                f"is not supported. Received: {layer!r} of dtype {layer.dtype}"
            )
        if isinstance(layer, Sequential):
            refuse_own_call(layer, "A model")
        for i in range(len(self._leaves), len(leaves)):
            leaves[i].connect(leaves[:i])
        shapes = self._shapes
        if not self._layers and not shapes and layer.declared_shape is not None:
            shapes = [(None, *layer.declared_shape)]
        if shapes:
            layer.ensure_built(shapes[-1])
            shapes = [*shapes, layer.compute_output_shape(shapes[-1])]
        self._layers.append(cast("Layer", layer))
        self._shapes = shapes
        self._note(leaves)

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        if not self._layers:
            raise ValueError("There is no layer to remove.")
        layer = self._layers.pop()
        del self._shapes[len(self._layers) + 1 :]
        self._note(leaves_of(self._layers))
        return layer

    def _note(self, leaves: list[Layer]) -> None:
        """Run these from now on; what was frozen when the model was compiled stays so."""
        flags = {id(leaf): flag for leaf, flag in zip(self._leaves, self._trained, strict=True)}
        self._trained = tuple(flags.get(id(leaf), leaf.trainable) for leaf in leaves)
        self._leaves = leaves
        self._nests = not all(isinstance(layer, Layer) for layer in self._layers)
        self._forget_plans()

    def _follow_layers(self) -> None:
        """Take notice of layers that nested models got or lost meanwhile."""
        if not self._nests:
            return
        leaves = leaves_of(self._layers)
        if len(leaves) == len(self._leaves) and all(map(operator.is_, leaves, self._leaves)):
            return
        check_distinct(leaves)
        if self._shapes:
            self._shapes = self._shapes_from(self._shapes[0])
        self._note(leaves)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return the layer of this name, or at this index of `layers`."""
        if (name is None) == (index is None):
            raise ValueError(
                "Exactly one of `name` and `index` must be given. "
                f"Received: name={name}, index={index}"
            )
        if index is not None:
            if not -len(self._layers) <= index < len(self._layers):
                raise ValueError(
                    f"`index` must be that of one of {len(self._layers)} layers. "
                    f"Received: index={index}"
                )
            return self._layers[index]
        for layer in self._layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self._layers)
        raise ValueError(f"`name` must be one of {names}. Received: name={name!r}")

    # ---- shapes

    @property
    def built(self) -> bool:
        """Whether the input's shape is known, hence all weights exist."""
        return bool(self._shapes and self._layers)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the layers, to which inputs are converted."""
        return self._layers[0].dtype if self._layers else np.dtype(np.float32)

    @property
    def input_shape(self) -> BatchShape:
        """Shape of the input with the batch axis; ValueError before it is known."""
        self._check_built()
        return self._shapes[0]

    @property
    def output_shape(self) -> BatchShape:
        """Shape of the output with the batch axis; ValueError before it is known."""
        self._follow_layers()
        self._check_built()
        if self.has_own_call():
            return (None, *self.own_output_shape(self._sample_shape))
        return self._shapes[-1]

    @property
    def _sample_shape(self) -> tuple[int, ...]:
        return sample_shape(self._shapes[0][1:])

    def output_shapes(self) -> list[BatchShape | None]:
        """Shape of each layer's output, None where the input's shape is not known."""
        self._follow_layers()
        return [*self._shapes[1:]] if self.built else [None] * len(self._layers)

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Create all weights for inputs of this shape, batch axis included: ``(None, 64)``.

        Raises
        ------
        ValueError
            If the model has no layers, or knows another input shape already.
        """
        if not self._layers:
            raise ValueError("The model must have layers before it can be built: call `add`.")
        if input_shape is None:
            self._check_built()
            return
        sample = sample_shape(tuple(input_shape)[1:])
        if self.built:
            if sample != self._sample_shape:
                raise ValueError(
                    f"`input_shape` must be {self._shapes[0]}, which the model has already. "
                    f"Received: input_shape={tuple(input_shape)}"
                )
            return
        self._shapes = self._shapes_from((None, *sample))

    def _shapes_from(self, input_shape: BatchShape) -> list[BatchShape]:
        shapes = [input_shape]
        for layer in self._layers:
            layer.ensure_built(shapes[-1])
            shapes.append(layer.compute_output_shape(shapes[-1]))
        return shapes

    # ---- as a layer of another model

    #: No penalty on the outputs of a whole model; layers have their own.
    activity_regularizer: ClassVar[None] = None

    @property
    def declared_shape(self) -> tuple[int, ...] | None:
        """Shape of a sample where it is known; see `Layer.declared_shape`."""
        return self._sample_shape if self._shapes else None

    def ensure_built(self, input_shape: BatchShape) -> None:
        """Build once; check that the shape fits in any case."""
        self.build(input_shape)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Shape of the output, batch axis included; ValueError where the input does not fit."""
        for layer in self._layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(
                f"The input shape of model '{self.name}' is not known yet: start with `Input`, "
                "call `build(input_shape)`, or fit it to data."
            )
        refuse_held_layers(self._leaves)

    # ---- running

    def __call__(self, x: ArrayLike, training: bool = False) -> Array:
        """Return the output for a batch as a new array.

        With `training`, dropout is active, and each trainable `BatchNormalization` uses the
        batch's statistics and moves its own; `trainable` counts as it is now.
        """
        inputs = self._fitting_inputs(x, "x")
        self._follow_layers()
        plan = self._cached_plan(len(inputs), self._trainable_now() if training else None)
        return plan.output(inputs).copy()

    def _fitting_inputs(self, x: ArrayLike, name: str) -> Array:
        inputs = as_inputs(x, self.dtype, name, self._sample_shape if self.built else None)
        if not self.built:
            self.build((None, *inputs.shape[1:]))
        expected = self._shapes[0][1:]
        if inputs.ndim == 1 and expected == (1,):
            return inputs[:, np.newaxis]
        if inputs.shape[1:] != expected:
            raise ValueError(
                f"`{name}` must have shape {self._shapes[0]}, the input of model '{self.name}'. "
                f"Received: {name} of shape {inputs.shape}"
            )
        return inputs

    def _trainable_now(self) -> tuple[bool, ...]:
        self._follow_layers()
        return tuple(leaf.trainable for leaf in self._leaves)

    def _start_training(self) -> None:
        self._trained = self._trainable_now()
        self._forget_plans()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def _warn_of_changes(self) -> None:
        now = self._trainable_now()
        if now == self._trained:
            return
        changed = [
            leaf.name
            for leaf, before, after in zip(self._leaves, self._trained, now, strict=True)
            if before != after and leaf.weights
        ]
        if changed:
            warnings.warn(
                f"`trainable` of {', '.join(changed)} was changed after the model was compiled: "
                "that has no effect before it is compiled again.",
                stacklevel=3,
            )

    def __getstate__(self) -> dict[str, Any]:
        # A plan's arrays are views of each other, which a copy would tear apart.
        return self.__dict__ | {
            "_plans": OrderedDict(),
            "_latest": None,
            "_lists": None,
            "_regularized": None,
            "_place": None,
            "_called": None,
            "_inner": {},
        }

    def _forget_plans(self) -> None:
        self._forget_calls()
        self._plans.clear()
        self._latest = None
        self._lists = None
        self._regularized = None
        self._place = None

    def _output_name(self) -> str | None:
        return self.layers[-1].name if self.layers else None

    def _training_lists(self) -> tuple[tuple[Array, ...], tuple[Variable, ...]]:
        if self._lists is None:
            variables = self._trained_variables()
            self._lists = tuple(variable.grad for variable in variables), variables
        return self._lists

    def _trained_variables(self) -> tuple[Variable, ...]:
        return tuple(
            variable
            for leaf, trained in zip(self._leaves, self._trained, strict=True)
            for variable in leaf.weights
            if trained and variable.trainable
        )

    def _penalties(self) -> Penalties:
        if self._regularized is None:
            self._regularized = Penalties(self._trained_variables())
        return self._regularized

    def _follow_device(self) -> None:
        """Bring the weights to the current device; forget the plans if any lies elsewhere now."""
        device, place = devices.current(), self._place
        if place is not None and place.device is device and place.moves == devices.moves():
            return
        variables = self.weights
        for variable in variables:
            variable.move_to(device)
        arrays = [variable.value for variable in variables]
        if place is None or not all(map(operator.is_, arrays, place.arrays)):
            self._forget_plans()
        self._place = _Place(device, devices.moves(), arrays)

    def _plan(self, samples: int, *, training: bool) -> Plan:
        self._follow_layers()
        return self._cached_plan(samples, self._trained if training else None)

    def _cached_plan(self, samples: int, trained: tuple[bool, ...] | None) -> Plan:
        """Plan for training these layers, or (None) for inference."""
        self._follow_device()
        latest = self._latest
        if latest is not None and latest[0] == samples and latest[1] is trained:
            return latest[2]
        plan = self._kept_plan(samples, trained)
        self._latest = samples, trained, plan
        return plan

    def _kept_plan(self, samples: int, trained: tuple[bool, ...] | None) -> Plan:
        key = (samples, trained)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
            return plan
        self._check_built()
        layers, flags = self._leaves, trained
        if self.has_own_call():
            layers = [cast("Layer", ModelCall(self, trained))]
            flags = None if trained is None else (any(trained),)
        plan = new_plan(
            layers,
            (samples, *self._sample_shape),
            self.dtype,
            trained=flags,
            logits_activation=self._logits_activation(),
        )
        self._plans[key] = plan
        if len(self._plans) > _PLANS_KEPT:
            self._plans.popitem(last=False)
        return plan
