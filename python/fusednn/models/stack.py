"""A model of layers that come from several models, where names may occur twice."""

from __future__ import annotations

from collections.abc import Sequence

from fusednn.layers import Input, Layer
from fusednn.layers.layer import BatchShape
from fusednn.models.sequential import Sequential


def stack(input_shape: BatchShape, layers: Sequence[Layer]) -> Sequential:
    """Return a model that shares these layers; each is in a nested model of its own.

    Parameters
    ----------
    input_shape
        Shape of the first one's input, with the batch axis.
    layers
        Distinct layers.
    """
    parts = [Sequential([layer], name=f"part_{i}") for i, layer in enumerate(layers)]
    return Sequential([Input(batch_shape=input_shape), *parts], name="stack")
