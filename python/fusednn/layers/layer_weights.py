"""The weights of a layer: creating, freezing, reading and writing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn import constraints, initializers, regularizers
from fusednn._arguments import check_number
from fusednn.layers.element_limit import take_elements
from fusednn.layers.step import Array
from fusednn.layers.weight_arguments import weight_arguments
from fusednn.variable import Variable


class LayerWeights:
    """Base of `Layer`: its variables, and what is set for all of them."""

    name: str
    dtype: np.dtype[Any]
    built: bool

    def _begin_weights(self, trainable: bool) -> None:
        self._trainable = bool(trainable)
        self._learning_rate_multiplier = 1.0
        self._variables: list[Variable] = []

    @property
    def trainable(self) -> bool:
        """Whether training may change the weights, from the next compile on."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)

    @property
    def learning_rate_multiplier(self) -> float:
        """What the optimizer's learning rate is multiplied by for the weights of this layer.

        At least 0, and 1 if nothing else is set; it takes effect at the next step, without a new
        compile, and scales `weight_decay`, which goes with the rate. Small values for the layers
        that come from another model keep what they know (Howard and Ruder's discriminative
        fine-tuning). PyTorch has groups of parameters for this, Keras nothing; models and files
        keep it, and Keras disregards it there.
        """
        return self._learning_rate_multiplier

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: float) -> None:
        number = check_number("learning_rate_multiplier", value, minimum=0)
        for variable in self._variables:
            variable.learning_rate_multiplier = number
        self._learning_rate_multiplier = number

    @property
    def weights(self) -> list[Variable]:
        """All variables, in the order of Keras; empty before the layer is built."""
        return list(self._variables)

    @property
    def variables(self) -> list[Variable]:
        """As `weights`."""
        return self.weights

    @property
    def trainable_weights(self) -> list[Variable]:
        """Variables that an optimizer updates; none where the layer is not trainable."""
        return [v for v in self._variables if v.trainable and self._trainable]

    @property
    def trainable_variables(self) -> list[Variable]:
        """As `trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other variables: moving statistics, and all of a frozen layer."""
        return [v for v in self._variables if not (v.trainable and self._trainable)]

    def add_weight(self, *args: Any, **kwargs: Any) -> Variable:
        """Create a variable of this layer; called by `build`.

        By position, the order is that of Keras 3, ``(shape, initializer, dtype, trainable,
        autocast, regularizer, constraint, aggregation, layout, name)``; or, where the first
        argument is a string, that of Keras 2, ``(name, shape, dtype, initializer, regularizer,
        trainable, constraint)``; or ``(name, shape, initializer)``.

        Parameters
        ----------
        name : str
            ``"variable"`` if not given.
        shape : sequence of int
            ``()`` if not given.
        initializer : str, Initializer or callable
            See `fusednn.initializers`; Glorot's uniform one if not given.
        dtype : str, optional
            Must be that of the layer.
        trainable : bool
            Whether an optimizer may update it.
        regularizer, constraint
            See `fusednn.regularizers` and `fusednn.constraints`.
        autocast, aggregation, layout
            Have no effect.
        """
        given = weight_arguments(args, kwargs)
        name = given.name
        if given.dtype is not None and np.dtype(given.dtype) != self.dtype:
            raise ValueError(
                f"`dtype` of variable '{name}' of layer '{self.name}' must be the layer's, "
                f"{self.dtype}. Received: dtype={given.dtype!r}"
            )
        make = initializers.get(given.initializer)
        shape = tuple(int(length) for length in given.shape if length is not None)
        if len(shape) < len(given.shape):
            raise ValueError(
                f"`shape` of variable '{name}' of layer '{self.name}' must be known. "
                f"Received: shape={given.shape}"
            )
        take_elements(math.prod(shape))
        variable = Variable(
            make(shape, dtype=self.dtype.name),
            name=name,
            path=f"{self.name}/{name}",
            trainable=given.trainable,
            dtype=self.dtype,
            regularizer=regularizers.get(given.regularizer),
            constraint=constraints.get(given.constraint),
        )
        variable.learning_rate_multiplier = self._learning_rate_multiplier
        self._variables.append(variable)
        return variable

    @property
    def losses(self) -> list[float]:
        """Penalties of the trainable weights that have a regularizer, as they are now."""
        return [v.regularizer(v) for v in self.trainable_weights if v.regularizer]

    def get_weights(self) -> list[Array]:
        """Return copies of all variables' values, in the order of `weights`."""
        return [v.numpy() for v in self._variables]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy `weights`, in the order of `weights`, into the variables: all of them or none."""
        assign_all(self._variables, weights, owner=f"layer '{self.name}'")

    def count_params(self) -> int:
        """Count the elements of all variables; ValueError before the layer is built."""
        if not self.built:
            raise ValueError(
                f"Layer '{self.name}' must be built before its parameters can be counted: "
                "call it on data, or `build(input_shape)`."
            )
        return sum(math.prod(v.shape) for v in self._variables)


def assign_all(variables: Sequence[Variable], weights: Sequence[ArrayLike], owner: str) -> None:
    """Assign each of `weights` to its variable, after all of them were found to fit."""
    if len(weights) != len(variables):
        raise ValueError(
            f"`weights` must hold {len(variables)} arrays, one for each variable of {owner}. "
            f"Received: {len(weights)} arrays"
        )
    arrays = [np.asarray(w) for w in weights]
    for variable, array in zip(variables, arrays, strict=True):
        if array.shape != variable.shape:
            raise ValueError(
                f"`weights` must have shape {variable.shape} for '{variable.path}' of {owner}. "
                f"Received: an array of shape {array.shape}"
            )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
