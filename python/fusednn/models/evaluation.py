"""Evaluate and predict: what runs a model forward only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from fusednn.callbacks import Callback, CallbackList
from fusednn.metrics import Metric
from fusednn.models.data import Array
from fusednn.models.feed import Feed
from fusednn.models.feeder import Feeder
from fusednn.models.objective import Objective
from fusednn.models.penalties import Penalties
from fusednn.models.plan import Plan
from fusednn.models.weights import weights_of

if TYPE_CHECKING:
    from fusednn.models.sequential import Sequential

Results = float | list[Any] | dict[str, Any]
Callbacks = Callback | Sequence[Callback] | None


class Evaluator(Feeder):
    """Base of `Trainer`: the loops that leave the weights alone.

    A subclass has layers, and makes the plans that run them.
    """

    def __init__(self) -> None:
        self._objective: Objective | None = None
        #: Batches between calls of callbacks.
        self.steps_per_execution = 1

    # ---- what a subclass provides

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
    def metrics(self) -> list[Metric]:
        """The mean loss and the compiled metrics; "accuracy" is there from the first batch on.

        Empty before `compile`. (Keras 3 has one object for all metrics.)
        """
        objective = self._objective
        if objective is None:
            return []
        return [objective.loss_tracker, *(objective.metrics or ())]

    def reset_metrics(self) -> None:
        """Forget all batches that the loss and the metrics have seen."""
        self._compiled().reset()

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
        x: Any,
        y: ArrayLike | None = None,
        batch_size: int | None = None,
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
            `metrics_names`; or a dictionary. Metrics that have a number for each class, as
            `F1Score()`, give an array.
        """
        self._compiled()
        with closing(
            self._feed(x, y, sample_weight, batch_size=batch_size, steps=steps, steps_name="steps")
        ) as feed:
            events = self._events(callbacks, verbose, epochs=1, steps=feed.steps)
            return results_of(self._evaluate(feed, events), return_dict)

    def _evaluate(self, feed: Feed, events: CallbackList) -> dict[str, Any]:
        """Return loss and metrics by name; nothing where an iterator has ended before."""
        objective = self._compiled()
        batch_logs = events.listens("on_test_batch_end")
        objective.reset()
        events.on_test_begin()
        taken = 0

        def end(batch: int) -> None:
            if batch_logs:
                events.on_test_batch_end(batch, objective.means())

        for arrays in self._told(feed.epoch(), events.on_test_batch_begin, end):
            self._test_step(*arrays)
            taken += 1
        results = objective.means() if taken else {}
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
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Array:
        """Return the outputs for all samples of `x`, in inference mode.

        Parameters
        ----------
        x, batch_size, verbose, callbacks
            As of `fit`; of batches with targets, the first part is taken.
        steps : int, optional
            Stop after so many batches.
        """
        feed, rows = self._inputs_alone(x, batch_size, steps)
        with closing(feed):
            events = self._events(callbacks, verbose, epochs=1, steps=feed.steps)
            return self._predict(feed, events, rows)

    def _predict(self, feed: Feed, events: CallbackList, rows: int | None) -> Array:
        """Return the outputs; into one array where the number of `rows` is known."""
        outputs: Array | None = None
        parts: list[Array] = []
        start = 0
        events.on_predict_begin()
        begin, end = events.on_predict_batch_begin, events.on_predict_batch_end
        for part, *_ in self._told(feed.epoch(), begin, end):
            y = self._plan(len(part), training=False).output(part)
            if rows is None:
                parts.append(y.copy())
            else:
                if outputs is None:
                    outputs = np.empty((rows, *y.shape[1:]), y.dtype)
                outputs[start : start + len(part)] = y
            start += len(part)
        events.on_predict_end()
        return np.concatenate(parts) if outputs is None else outputs

    def _told(
        self, batches: Iterator[Any], begin: Callable[[int], None], end: Callable[[int], None]
    ) -> Iterator[Any]:
        """Yield batches, and call before the first and after the last of so many."""
        taken = told = 0
        for batch in batches:
            if taken == told:
                begin(taken)
            yield batch
            taken += 1
            if taken - told == self.steps_per_execution:
                told = taken
                end(taken - 1)
        if taken > told:
            end(taken - 1)

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

    def _events(
        self, callbacks: Callbacks, verbose: int | str, *, add_history: bool = False, **params: Any
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


def results_of(means: dict[str, Any], return_dict: bool) -> Results:
    """Return the means as they are, or without their names; a single one as a number."""
    if return_dict:
        return means
    values = list(means.values())
    return values[0] if len(values) == 1 else values
