"""One step of any optimizer over a list of arrays, as a function of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import jax.numpy as jnp
import numpy as np

from fusednn import _core
from fusednn.jax.arguments import require_array, require_number
from fusednn.jax.calls import call

Arrays = Sequence[Any]
States = Mapping[str, Arrays | None]
#: FNN_MAX_HYPERPARAMETERS of fusednn.h.
_MOST_HYPERPARAMETERS = 8


class StepOptions(TypedDict, total=False):
    """Options that every step takes; `fusednn.ops.optimizer` says what they do."""

    convention: str
    weight_decay: float
    decoupled_weight_decay: bool | None
    maximize: bool
    clip_value: float | None
    max_norm_each: float | None
    max_norm: float | None
    skip_nonfinite: bool


def optimizer_step(
    kind: str,
    params: Arrays,
    grads: Arrays,
    states: States,
    hyperparameters: Mapping[str, float | bool | None],
    *,
    lr: Any,
    count: Any,
    grad_scale: Any = None,
    **options: Unpack[StepOptions],
) -> tuple[list[Any], dict[str, list[Any] | None], Any]:
    """Return what one step makes of parameters and states, in one call for all of them.

    As `fusednn.ops.optimizer_step`; arrays of JAX do not change, but where they are donated to the
    program the results take their memory.

    Parameters
    ----------
    kind : str
        ``"sgd"``, ``"adagrad"``, ``"rmsprop"``, ``"adam"``, ``"adamax"`` or ``"nadam"``.
    params, grads : list of Array
        float32, float64, float16 or bfloat16; pairs of one shape.
    states : dict of str to list of Array or None
        As the functions of `fusednn.ops` name them: ``{"exp_avgs": [...], "exp_avg_sqs": [...]}``.
    hyperparameters : dict of str to float, bool or None
        All but `lr`, known when the program is compiled; absent: the convention's default.
    lr, count, grad_scale : scalar, may be traced
        The learning rate, the number of updates made before this one, and what the gradients are
        divided by.
    **options
        ``convention`` (default ``"optax"``), ``weight_decay``, ``decoupled_weight_decay``,
        ``maximize``, ``clip_value``, ``max_norm_each``, ``max_norm``, ``skip_nonfinite``, known
        when the program is compiled: see `fusednn.ops.optimizer`.

    Returns
    -------
    params, states
        Of the same dtypes.
    stepped : Array, int32
        0 where `skip_nonfinite` met a gradient that is not finite, else 1.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        What `fusednn.ops.optimizer_step` refuses is refused here while the program is traced;
        a learning rate or scale that is traced is checked when it runs.
    """
    params, grads = list(params), list(grads)
    for name, arrays in (("params", params), ("grads", grads)):
        arrays[:] = [require_array(f"{name}[{i}]", array) for i, array in enumerate(arrays)]
    hyperparameters = {
        name: value if value is None else require_number(name, value)
        for name, value in hyperparameters.items()
    }
    held = {name: None if s is None else list(map(jnp.asarray, s)) for name, s in states.items()}
    options.setdefault("convention", "optax")
    _check(kind, params, grads, held, hyperparameters, options)
    if not params:
        return params, held, jnp.ones((), jnp.int32)
    names = _core.optimizer_states(kind)
    present = [name for name in names if held.get(name) is not None]
    updated = [*params, *(array for name in present for array in held[name] or ())]
    scalar = jnp.float64 if any(p.dtype == jnp.float64 for p in params) else jnp.float32
    numbers = [jnp.asarray(lr, scalar), jnp.asarray(count, jnp.float32)]
    if grad_scale is not None:
        numbers.append(jnp.asarray(grad_scale, scalar))
    first = len(numbers) + len(grads)
    stepped, _, *results = call(
        "optimizer_step",
        [*numbers, *grads, *updated],
        [((), jnp.int32), ((), jnp.float32), *((array.shape, array.dtype) for array in updated)],
        _attributes(kind, options, hyperparameters, len(params), present, grad_scale is not None),
        {1: 1, **{first + i: 2 + i for i in range(len(updated))}},
    )
    if not options.get("skip_nonfinite"):
        # Known without the kernel, whose word is in a `shard_map` typed as one of each device.
        stepped = jnp.ones((), jnp.int32)
    n = len(params)
    parts = [results[i : i + n] for i in range(0, len(results), n)]
    moved: dict[str, list[Any] | None] = dict(held)
    moved.update(zip(present, parts[1:], strict=True))
    return parts[0], moved, stepped


def _check(
    kind: str,
    params: list[Any],
    grads: list[Any],
    states: Mapping[str, list[Any] | None],
    hyperparameters: Mapping[str, Any],
    options: StepOptions,
) -> None:
    """Let the kernels refuse what they would refuse, on arrays of the same dtypes and no elements.

    Shapes are compared here.
    """
    lists = {"grads": grads, **{name: s for name, s in states.items() if s is not None}}
    for name, arrays in lists.items():
        if len(arrays) != len(params):
            raise ValueError(
                f"`{name}` must hold one array per parameter, {len(params)}. "
                f"Received: {len(arrays)}"
            )
        for i, (array, param) in enumerate(zip(arrays, params, strict=True)):
            if array.shape != param.shape:
                raise ValueError(
                    f"`{name}[{i}]` must have the shape of `params[{i}]`, {param.shape}. "
                    f"Received: shape={array.shape}"
                )

    def empty(arrays: list[Any] | None) -> list[Any] | None:
        if arrays is None:
            return None
        # The options of an empty list are checked, too.
        return [np.empty(0, array.dtype) for array in arrays] or [np.empty(0, np.float32)]

    _core.optimizer_step(
        kind,
        empty(params),
        empty(grads),
        {name: empty(arrays) for name, arrays in states.items()},
        0 if options["convention"] == "onnx" else 1,
        options["convention"],
        {**hyperparameters, "lr": 0.0},
        options.get("weight_decay", 0.0),
        options.get("decoupled_weight_decay"),
        options.get("maximize", False),
        None,
        options.get("clip_value"),
        options.get("max_norm_each"),
        options.get("max_norm"),
        options.get("skip_nonfinite", False),
        None,
        0.0,
        None,
        None,
        None,
        True,
    )


def _attributes(
    kind: str,
    options: StepOptions,
    hyperparameters: Mapping[str, Any],
    count: int,
    states: list[str],
    has_grad_scale: bool,
) -> list[float]:
    """Return what `OptimizerAttributes` are made of; `states` are the names of those present."""
    order, names = _core.optimizer_hyperparameters(kind), _core.optimizer_states(kind)
    # The first, lr, comes as an array.
    values, given = [0.0] * _MOST_HYPERPARAMETERS, 1
    for i, name in enumerate(order):
        if hyperparameters.get(name) is not None:
            values[i], given = hyperparameters[name], given | 1 << i
    decoupled = options.get("decoupled_weight_decay")
    limits = options.get("clip_value"), options.get("max_norm_each"), options.get("max_norm")
    return [
        _core.optimizer_names().index(kind),
        _core.convention_names().index(options["convention"]),
        count,
        sum(1 << i for i, name in enumerate(names) if name in states),
        given,
        options.get("weight_decay", 0.0),
        -1 if decoupled is None else decoupled,
        options.get("maximize", False),
        has_grad_scale,
        *(math.inf if n is None else n for n in limits),
        options.get("skip_nonfinite", False),
        *values,
    ]
