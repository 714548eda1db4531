"""The weights of a model: lists of variables, and what is set for all layers at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from numpy.typing import ArrayLike

from fusednn._arguments import check_number
from fusednn.layers import Layer
from fusednn.layers.layer_weights import assign_all
from fusednn.models.data import Array
from fusednn.variable import Variable


class Weighted:
    """Base of `Sequential`: its layers' variables, layer by layer."""

    name: str
    _layers: list[Layer]

    def _check_built(self) -> None:
        """Raise ValueError where the weights are not known yet."""
        raise NotImplementedError

    def _collect(self, of: Callable[[Layer], list[Variable]]) -> list[Variable]:
        return [variable for layer in self._layers for variable in of(layer)]

    @property
    def weights(self) -> list[Variable]:
        """All variables, layer by layer."""
        return self._collect(lambda layer: layer.weights)

    @property
    def variables(self) -> list[Variable]:
        """As `weights`."""
        return self.weights

    @property
    def trainable_weights(self) -> list[Variable]:
        """Variables of the layers that are trainable now, moving statistics excepted."""
        return self._collect(lambda layer: layer.trainable_weights)

    @property
    def trainable_variables(self) -> list[Variable]:
        """As `trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """All other variables."""
        return self._collect(lambda layer: layer.non_trainable_weights)

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """As `non_trainable_weights`."""
        return self.non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether any layer is trainable; setting it sets all layers."""
        return any(layer.trainable for layer in self._layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._layers:
            layer.trainable = value

    @property
    def learning_rate_multiplier(self) -> float | list[float]:
        """That of all layers, or a list of them where they differ; setting it sets all layers.

        See `Layer.learning_rate_multiplier`.
        """
        values = [layer.learning_rate_multiplier for layer in self._layers]
        return values if len(set(values)) > 1 else (values or [1.0])[0]

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: float) -> None:
        number = check_number("learning_rate_multiplier", value, minimum=0)
        for layer in self._layers:
            layer.learning_rate_multiplier = number

    @property
    def losses(self) -> list[float]:
        """Penalties of the trainable weights that have a regularizer, as they are now."""
        return [penalty for layer in self._layers for penalty in layer.losses]

    def get_weights(self) -> list[Array]:
        """Return copies of all variables' values, in the order of `weights`."""
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy `weights`, in the order of `weights`, into the variables: all of them or none."""
        assign_all(self.weights, weights, owner=f"model '{self.name}'")

    def count_params(self) -> int:
        """Count the elements of all variables."""
        self._check_built()
        return sum(math.prod(variable.shape) for variable in self.weights)

    def _named_weights(self) -> list[tuple[str, Variable]]:
        """Return the variables with names that differ; those of nested models begin with theirs."""
        named: list[tuple[str, Variable]] = []
        for layer in self._layers:
            if isinstance(layer, Weighted):
                named += [(f"{layer.name}/{path}", v) for path, v in layer._named_weights()]
            else:
                named += [(variable.path, variable) for variable in layer.weights]
        return named
