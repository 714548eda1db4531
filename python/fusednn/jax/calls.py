"""Calls of handlers inside programs of JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

Shaped = tuple[tuple[int, ...], Any]

# Which axes of a mesh an array differs along is part of its type; jax 0.10 gave that another name.
_TYPED = hasattr(jax.sharding, "ManualAxisType")


def axes_of(*arrays: Any) -> frozenset[Any]:
    """Return the axes of a `jax.shard_map`'s mesh along which any of `arrays` differs."""
    types = [jax.typeof(array) for array in arrays]
    sets = [t.manual_axis_type.varying if _TYPED else t.vma for t in types]
    return frozenset[Any]().union(*sets)


def varying(array: Any, axes: frozenset[Any]) -> Any:
    """Return `array`, typed as differing along `axes`.

    The gradient of what was the same on all devices is then the sum over them, as it should be.
    """
    missing = tuple(sorted(axes - axes_of(array)))
    if not missing:
        return array
    if hasattr(lax, "pcast"):
        return lax.pcast(array, missing, to="varying")
    return lax.pvary(array, missing)


def _shaped(shape: tuple[int, ...], dtype: Any, axes: frozenset[Any]) -> Any:
    if not axes:
        return jax.ShapeDtypeStruct(shape, dtype)
    whole = NamedSharding(jax.sharding.get_abstract_mesh(), PartitionSpec())
    if _TYPED:
        manual = jax.sharding.ManualAxisType(varying=axes)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=whole, manual_axis_type=manual)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=whole, vma=axes)


def call(
    name: str,
    operands: Sequence[Any],
    results: Sequence[Shaped],
    numbers: Sequence[float],
    aliases: dict[int, int] | None = None,
) -> tuple[Any, ...]:
    """Call a handler of the library.

    Parameters
    ----------
    name : str
        Without its prefix.
    operands : sequence of Array
    results : sequence of (shape, dtype)
    numbers : sequence of float
        What the program is compiled for, in the handler's order.
    aliases : dict of int to int, optional
        Which operand shares its memory with which result: it is overwritten where the program need
        not keep it, and copied before where it must.

    Returns
    -------
    tuple of Array
    """
    axes = axes_of(*operands)
    made = tuple(_shaped(shape, dtype, axes) for shape, dtype in results)
    function = jax.ffi.ffi_call(
        f"fusednn_{name}", made, vmap_method="broadcast_all", input_output_aliases=aliases
    )
    given = np.array(numbers, np.float64)
    outcome: tuple[Any, ...] = function(*(varying(x, axes) for x in operands), numbers=given)
    return outcome
