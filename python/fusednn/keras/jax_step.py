"""A step of an optimizer on Keras' JAX backend: one handler's call in the compiled program.

Clipping by number or by variable, weight decay and the division by a scale are in the call. Sums of
gradients, moving averages and the norm of all gradients are Keras', which XLA fuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras

from fusednn.jax.steps import optimizer_step


def can_step(grads: Sequence[Any], variables: Sequence[Any]) -> bool:
    """Return whether these are arrays of one device that the kernels can read."""
    return keras.distribution.distribution() is None and all(
        isinstance(grad, jax.Array)
        and jnp.issubdtype(grad.dtype, jnp.floating)
        and jnp.issubdtype(variable.dtype, jnp.floating)
        for grad, variable in zip(grads, variables, strict=True)
    )


def divides(optimizer: Any) -> bool:
    """Return whether the step divides gradients by the loss' scale; else Keras does, before."""
    return not (optimizer.gradient_accumulation_steps or optimizer.global_clipnorm)


def part_from_averages(variables: Sequence[Any]) -> None:
    """Copy what Keras has made one array with the averages: a step donates both of them."""
    for variable in variables:
        variable.assign(jnp.copy(variable.value))


def update(optimizer: Any, grads: Sequence[Any], variables: Sequence[Any], rate: Any) -> None:
    """Do what Keras' `_clip_gradients`, `_apply_weight_decay` and `_backend_update_step` do."""
    options: dict[str, Any] = {"convention": "keras"}
    if (optimizer.clipnorm or 0) > 0:
        options["max_norm_each"] = optimizer.clipnorm
    elif (optimizer.clipvalue or 0) > 0:
        options["clip_value"] = optimizer.clipvalue
    scale = optimizer._undivided
    if scale != 1.0:
        options["grad_scale"] = scale
    states = optimizer._kernel_states()
    for decays in (True, False):
        places = [
            place
            for place, variable in enumerate(variables)
            if (bool(optimizer.weight_decay) and optimizer._use_weight_decay(variable)) == decays
        ]
        if not places:
            continue
        chosen = [variables[place] for place in places]
        indices = [optimizer._get_variable_index(variable) for variable in chosen]
        kept = {name: [of_all[index] for index in indices] for name, of_all in states.items()}
        params, moved, _ = optimizer_step(
            optimizer.kind,
            [variable.value for variable in chosen],
            [grads[p].astype(v.dtype) for p, v in zip(places, chosen, strict=True)],
            {name: [state.value for state in list_] for name, list_ in kept.items()},
            optimizer._hyperparameters(),
            lr=jnp.asarray(rate),
            count=jnp.asarray(optimizer.iterations),
            weight_decay=optimizer.weight_decay if decays else 0.0,
            **options,
        )
        for variable, value in zip(chosen, params, strict=True):
            variable.assign(value)
        for name, variables_of in kept.items():
            for variable, value in zip(variables_of, moved[name] or (), strict=True):
                variable.assign(value)
