"""What all optimizers share: optax's pair of functions, and a step in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fusednn.jax.arguments import DTYPES
from fusednn.jax.steps import StepOptions, optimizer_step

Tree = Any
Rate = Any  # a number, an array, or a function of the number of updates made


class Kept(NamedTuple):
    """A state of the kernels: where it is in the optimizer's state, and what it starts with."""

    field: str
    initial: float = 0.0
    dtype: Any = None  # None: that of the parameter


class _Pair(NamedTuple):
    init: Callable[[Tree], Any]
    update: Callable[..., tuple[Tree, Any]]


class FusedTransformation(_Pair):
    """An `optax.GradientTransformation` with a fused step beside it.

    ``init(params)`` and ``update(grads, state, params=None)`` are those of optax: they go into
    `optax.chain`, `optax.apply_updates`, Flax' `nnx.Optimizer`, and everything else that takes a
    gradient transformation. Optax need not be installed.

    :meth:`apply` makes the step itself: it reads and writes each array once, in the memory of the
    old ones where `params` and `state` are donated to the program.
    """

    _recipe: Recipe

    def __new__(cls, recipe: Recipe) -> FusedTransformation:
        """Make the pair of `recipe`."""
        self = super().__new__(cls, recipe.init, recipe.update)
        self._recipe = recipe
        return self

    def apply(
        self, params: Tree, grads: Tree, state: Any, *, grad_scale: Any = None
    ) -> tuple[Tree, Any]:
        """Return the parameters and the state after one step.

        Inside ``jax.jit(..., donate_argnums=...)`` with `params` and `state` among the donated
        arguments nothing is allocated: the results are in their memory.
        Arrays that are sharded over devices are gathered first, and the results are whole on each
        of them; inside a `jax.shard_map` each device steps its own parts.

        Parameters
        ----------
        params : pytree of Array
        grads : pytree of Array
            Of the same structure.
        state
            What `init`, `update` or `apply` returned.
        grad_scale : scalar, optional
            Gradients are divided by it (mixed precision).

        Returns
        -------
        params, state

        Raises
        ------
        TypeError, ValueError
            For leaves that are no floating-point arrays, trees that do not agree, or shapes.
        """
        leaves, structure = _floating_leaves("params", params)
        grad_leaves = _leaves_like("grads", grads, structure)
        moved, state = self._recipe.apply(leaves, grad_leaves, state, params, grad_scale)
        return jax.tree.unflatten(structure, moved), state


@dataclass(frozen=True)
class Recipe:
    """An optimizer's arguments, and what is done with them."""

    kind: str
    learning_rate: Rate
    state_type: Any
    kept: Mapping[str, Kept]
    hyperparameters: Mapping[str, float | bool | None]
    options: StepOptions = field(default_factory=StepOptions)
    mask: Any = None

    def __post_init__(self) -> None:
        """Refuse at once what can be known now."""
        spanning = [n for n in ("max_norm", "skip_nonfinite") if self.options.get(n)]
        if self.mask is not None and spanning:
            raise ValueError(f"`mask` must be None where `{spanning[0]}` is given. Received: both")
        rate = self.learning_rate
        if isinstance(rate, int | float) and not rate >= 0:
            raise ValueError(f"`learning_rate` must not be negative. Received: {rate}")
        none: list[Any] = []
        states = dict.fromkeys(self.kept, none)
        optimizer_step(
            self.kind, [], [], states, self.hyperparameters, lr=0.0, count=0, **self.options
        )

    def init(self, params: Tree) -> Any:
        """Return the state before the first step."""
        leaves, structure = _floating_leaves("params", params)
        trees = {
            kept.field: jax.tree.unflatten(
                structure, [jnp.full_like(p, kept.initial, dtype=kept.dtype) for p in leaves]
            )
            for kept in self.kept.values()
        }
        absent = dict.fromkeys(self.state_type._fields)
        return self.state_type(**{**absent, **trees, "count": jnp.zeros((), jnp.int32)})

    def update(self, grads: Tree, state: Any, params: Tree = None) -> tuple[Tree, Any]:
        """Return what is added to the parameters, and the state."""
        leaves, structure = _floating_leaves("grads", grads)
        decay = self.options.get("weight_decay", 0.0)
        if decay and params is None:
            raise ValueError("`params` must be given where `weight_decay` is not 0. Received: None")
        given = leaves if params is None else _leaves_like("params", params, structure)
        # What is added to 0 is the update itself: a difference of parameters would be rounded as
        # they are, and a small step lost. With decay the one rounding comes after it.
        zeros = [jnp.zeros_like(p, dtype=_computed_in(p.dtype) if decay else None) for p in given]
        rate = self._rate(state)
        undecayed = [False] * len(given)
        updates, state, stepped = self._step(zeros, leaves, state, rate, undecayed)
        if decay:
            updates = [
                _with_decay(update, param, rate, decay if decays else 0.0, stepped)
                for update, param, decays in zip(
                    updates, given, self._decayed(params, len(given)), strict=True
                )
            ]
        return jax.tree.unflatten(structure, updates), state

    def apply(
        self, params: list[Any], grads: list[Any], state: Any, tree: Tree, grad_scale: Any
    ) -> tuple[list[Any], Any]:
        """Return leaves and state after a step; `tree` is what the mask is for."""
        decayed = self._decayed(tree, len(params))
        rate = self._rate(state)
        return self._step(params, grads, state, rate, decayed, grad_scale)[:2]

    def _rate(self, state: Any) -> Any:
        rate = self.learning_rate
        return rate(state.count) if callable(rate) else rate

    def _step(
        self,
        params: list[Any],
        grads: list[Any],
        state: Any,
        rate: Any,
        decayed: list[bool],
        grad_scale: Any = None,
    ) -> tuple[list[Any], Any, Any]:
        """Return leaves and state after a step, and 0 where it was skipped."""
        structures: dict[str, Any] = {}
        states: dict[str, list[Any]] = {}
        for name, kept in self.kept.items():
            states[name], structures[name] = jax.tree.flatten(getattr(state, kept.field))
        stepped: Any = 1
        for decays in sorted(set(decayed)):
            at = [i for i, d in enumerate(decayed) if d == decays]
            options = self.options if decays else self.options | {"weight_decay": 0.0}
            new_params, new_states, stepped = optimizer_step(
                self.kind,
                [params[i] for i in at],
                [grads[i] for i in at],
                {name: [arrays[i] for i in at] for name, arrays in states.items()},
                self.hyperparameters,
                lr=rate,
                count=state.count,
                grad_scale=grad_scale,
                **options,
            )
            params, states = list(params), {name: list(a) for name, a in states.items()}
            for position, i in enumerate(at):
                params[i] = new_params[position]
                for name, arrays in states.items():
                    arrays[i] = new_states[name][position]  # type: ignore[index]
        trees = {
            kept.field: jax.tree.unflatten(structures[name], states[name])
            for name, kept in self.kept.items()
        }
        # As optax does: a count that cannot grow stays.
        count = state.count + jnp.where(state.count < jnp.iinfo(jnp.int32).max, stepped, 0)
        return params, state._replace(count=count, **trees), stepped

    def _decayed(self, tree: Tree, count: int) -> list[bool]:
        if self.mask is None or not self.options.get("weight_decay"):
            return [True] * count
        mask = self.mask(tree) if callable(self.mask) else self.mask
        whole = jax.tree.map(lambda m, part: jax.tree.map(lambda _: bool(m), part), mask, tree)
        return list(jax.tree.leaves(whole))


def _computed_in(dtype: Any) -> Any:
    """Return the dtype in which the kernels compute what they keep in `dtype`."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _with_decay(update: Any, param: Any, rate: Any, decay: float, stepped: Any) -> Any:
    """Return the update and the decoupled decay together, rounded once."""
    decay = jnp.asarray(rate, update.dtype) * decay * param.astype(update.dtype)
    return jnp.where(jnp.asarray(stepped) != 0, update - decay, update).astype(param.dtype)


def _floating_leaves(name: str, tree: Tree) -> tuple[list[Any], Any]:
    leaves, structure = jax.tree.flatten_with_path(tree)
    for path, leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or jnp.dtype(dtype).name not in DTYPES:
            raise TypeError(
                f"`{name}{jax.tree_util.keystr(path)}` must be an array of float32, float64, "
                f"float16 or bfloat16. Received: {type(leaf).__name__}, dtype={dtype}"
            )
    return [leaf for _, leaf in leaves], structure


def _leaves_like(name: str, tree: Tree, structure: Any) -> list[Any]:
    leaves, own = _floating_leaves(name, tree)
    if own != structure:
        other = "grads" if name == "params" else "params"
        raise ValueError(
            f"`{name}` must have the structure of `{other}`, {structure}. Received: {own}"
        )
    return leaves
