"""Evaluate and predict: what runs a model forward only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from fusednn.callbacks import Callback, CallbackList
from fusednn.models.data import Array, Batches, as_targets, check_count
from fusednn.models.objective import Objective
from fusednn.models.penalties import Penalties
from fusednn.models.plan import Plan
from fusednn.models.weights import weights_of

if TYPE_CHECKING:
    from fusednn.models.sequential import Sequential

Results = float | list[float] | dict[str, float]
Callbacks = Callback | Sequence[Callback] | None


class Evaluator:
    """Base of `Trainer`: the loops that leave the weights alone.

    A subclass has layers, and makes the plans that run them.
    """

    def __init__(self) -> None:
        self._objective: Objective | None = None

    # ---- what a subclass provides

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the activations."""
        raise NotImplementedError

    def _fitting_inputs(self, x: ArrayLike, name: str) -> Array:
        """Return `x` as an array that the layers accept; build the model if it is not yet."""
        raise NotImplementedError

    def _penalties(self) -> Penalties:
        """Return the penalties on the weights that train."""
        raise NotImplementedError

    def _plan(self, samples: int, *, training: bool) -> Plan:
        """Return the plan for batches of this many samples."""
        raise NotImplementedError

    # ---- what the model is compiled for

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._objective is not None

    @property
    def loss(self) -> Any:
        """The compiled `Loss`, or None."""
        return None if self._objective is None else self._objective.loss

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in its order."""
        return self._compiled().names

    def _compiled(self) -> Objective:
        if self._objective is None:
            raise ValueError("The model must be compiled first: call `compile(optimizer, loss)`.")
        return self._objective

    def _logits_activation(self) -> str | None:
        return None if self._objective is None else self._objective.logits_activation

    # ---- evaluate and predict

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int = 32,
        verbose: int | str = "auto",
        sample_weight: ArrayLike | None = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Results:
        """Compute loss and metrics in inference mode, as means over the samples.

        Parameters
        ----------
        x, y, batch_size, verbose, sample_weight, callbacks
            As of `fit`; "auto" is silent where there is no terminal.
        steps : int, optional
            Stop after so many batches.
        return_dict : bool
            Return a dictionary by name.

        Returns
        -------
        float, list of float or dict
            The loss alone where there are no metrics, else a list in the order of
            `metrics_names`; or a dictionary.
        """
        self._compiled()
        inputs, targets = self._arrays(x, y)
        weights = weights_of(targets, self.dtype, sample_weight)
        size = check_count("batch_size", batch_size)
        batches = Batches(inputs, targets, size, shuffle=False, weights=weights)
        count = len(batches) if steps is None else min(check_count("steps", steps), len(batches))
        events = self._events(callbacks, verbose, epochs=1, steps=count)
        return results_of(self._evaluate(batches, events, count), return_dict)

    def _evaluate(
        self, batches: Batches, events: CallbackList, steps: int | None = None
    ) -> dict[str, float]:
        objective = self._compiled()
        batch_logs = events.listens("on_test_batch_end")
        objective.reset()
        events.on_test_begin()
        for batch, arrays in enumerate(islice(batches, steps)):
            events.on_test_batch_begin(batch)
            self._test_step(*arrays)
            if batch_logs:
                events.on_test_batch_end(batch, objective.means())
        results = objective.means()
        events.on_test_end(results)
        return results

    def _test_step(self, x: Array, y: Array, weights: Array | None = None) -> None:
        objective = self._compiled()
        plan = self._plan(len(x), training=False)
        with np.errstate(all="ignore"):
            z = plan.forward(x)
            loss = objective.evaluate(plan, y, z, gradient=False, weights=weights)
            objective.record(plan, y, z, loss + self._penalty(plan), weights)

    def _penalty(self, plan: Plan) -> float:
        return self._penalties().value() + plan.activity_penalty()

    def predict(
        self,
        x: ArrayLike,
        batch_size: int = 32,
        verbose: int | str = "auto",
        callbacks: Callbacks = None,
    ) -> Array:
        """Return the outputs for all samples of `x`, in inference mode; parameters as of `fit`."""
        inputs = self._fitting_inputs(x, "x")
        batches = Batches(inputs, inputs, check_count("batch_size", batch_size), shuffle=False)
        events = self._events(callbacks, verbose, epochs=1, steps=len(batches))
        outputs: Array | None = None
        start = 0
        events.on_predict_begin()
        for batch, (part, _) in enumerate(batches):
            events.on_predict_batch_begin(batch)
            y = self._plan(len(part), training=False).output(part)
            if outputs is None:
                outputs = np.empty((len(inputs), *y.shape[1:]), y.dtype)
            outputs[start : start + len(part)] = y
            start += len(part)
            events.on_predict_batch_end(batch, {})
        events.on_predict_end()
        assert outputs is not None
        return outputs

    def test_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        return_dict: bool = False,
    ) -> Results:
        """Compute loss and metrics of one batch, in inference mode; returns as `evaluate`."""
        objective = self._compiled()
        arrays = self._arrays(x, y)
        weights = weights_of(arrays[1], self.dtype, sample_weight)
        objective.reset()
        self._test_step(*arrays, weights)
        return results_of(objective.means(), return_dict)

    def predict_on_batch(self, x: ArrayLike) -> Array:
        """Return the outputs for all of `x` as one batch, in inference mode."""
        inputs = self._fitting_inputs(x, "x")
        return self._plan(len(inputs), training=False).output(inputs).copy()

    # ---- arguments

    def _arrays(self, x: ArrayLike, y: ArrayLike, prefix: str = "") -> tuple[Array, Array]:
        inputs = self._fitting_inputs(x, f"{prefix}x")
        return inputs, as_targets(y, self.dtype, len(inputs), f"{prefix}y")

    def _events(
        self, callbacks: Callbacks, verbose: int | str, *, add_history: bool = False, **params: int
    ) -> CallbackList:
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"`verbose` must be 'auto', 0, 1 or 2. Received: verbose={verbose!r}")
        return CallbackList(
            callbacks,
            add_history=add_history,
            add_progbar=verbose != 0,
            model=cast("Sequential", self),
            verbose=verbose,
            **params,
        )


def results_of(means: dict[str, float], return_dict: bool) -> Results:
    """Return the means as they are, or without their names; a single one as a number."""
    if return_dict:
        return means
    values = list(means.values())
    return values[0] if len(values) == 1 else values
