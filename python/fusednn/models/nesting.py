"""Models as layers of other models.

Such a model is one entry of `Sequential.layers`, of weights and of files. What runs are the layers
inside, one after another, so that neighbours are fused across its ends, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fusednn.layers import Layer


def leaves_of(layers: Iterable[Any]) -> list[Layer]:
    """Return the layers, with those of nested models in their place."""
    leaves: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Layer):
            leaves.append(layer)
        else:
            leaves += leaves_of(layer.layers)
    return leaves


def distinct_names(leaves: list[Layer]) -> list[str]:
    """Return the layers' names, numbered where layers of several models have the same."""
    names: list[str] = []
    used: set[str] = set()
    for leaf in leaves:
        name, count = leaf.name, 0
        while name in used:
            count += 1
            name = f"{leaf.name}_{count}"
        used.add(name)
        names.append(name)
    return names


def contains(outer: Any, inner: Any) -> bool:
    """Whether a model or layer is another one, or has it inside, at any depth."""
    if outer is inner:
        return True
    return not isinstance(outer, Layer) and any(contains(x, inner) for x in outer.layers)


def check_distinct(leaves: list[Layer]) -> None:
    """Refuse a layer that occurs twice: its gradients and its moving statistics are one set."""
    seen: set[int] = set()
    for leaf in leaves:
        if id(leaf) in seen:
            raise ValueError(
                "`layer` must not be, or hold, a layer that the model has already. "
                f"Received: {leaf!r}"
            )
        seen.add(id(leaf))
