"""Evaluate and predict: what runs a model forward only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from fusednn.callbacks import Callback, CallbackList
from fusednn.metrics import Metric
from fusednn.models.data import Array, Batches, as_targets, batches_of, check_count
from fusednn.models.feed import Batch, Feed, kind_of, makes_batches, parts_of
from fusednn.models.objective import Objective
from fusednn.models.penalties import Penalties
from fusednn.models.plan import Plan
from fusednn.models.weights import weights_of

if TYPE_CHECKING:
    from fusednn.models.sequential import Sequential

Results = float | list[float] | dict[str, float]
Callbacks = Callback | Sequence[Callback] | None

_BATCHES_HAVE_A_SIZE = (
    "`batch_size` must not be given where `x` is a {kind}: its batches have a size already. "
    "Received: batch_size={size!r}"
)


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
            `metrics_names`; or a dictionary.
        """
        self._compiled()
        with closing(
            self._feed(x, y, sample_weight, batch_size=batch_size, steps=steps, steps_name="steps")
        ) as feed:
            events = self._events(callbacks, verbose, epochs=1, steps=feed.steps)
            return results_of(self._evaluate(feed, events), return_dict)

    def _evaluate(self, feed: Feed, events: CallbackList) -> dict[str, float]:
        """Return loss and metrics by name; nothing where an iterator has ended before."""
        objective = self._compiled()
        batch_logs = events.listens("on_test_batch_end")
        objective.reset()
        events.on_test_begin()
        taken = 0
        for batch, arrays in enumerate(feed.epoch()):
            events.on_test_batch_begin(batch)
            self._test_step(*arrays)
            taken += 1
            if batch_logs:
                events.on_test_batch_end(batch, objective.means())
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
        size = 32 if batch_size is None else check_count("batch_size", batch_size)
        steps = None if steps is None else check_count("steps", steps)
        rows: int | None = None
        if makes_batches(x):
            if batch_size is not None:
                raise ValueError(_BATCHES_HAVE_A_SIZE.format(kind=kind_of(x), size=batch_size))
            feed = Feed(x, self._predicted_batch, steps=steps, steps_name="steps")
        else:
            inputs = self._fitting_inputs(x, "x")
            rows = len(inputs) if steps is None else min(len(inputs), steps * size)
            feed = Feed(Batches(inputs, inputs, size, shuffle=False), steps=steps)
        with closing(feed):
            events = self._events(callbacks, verbose, epochs=1, steps=feed.steps)
            return self._predict(feed, events, rows)

    def _predict(self, feed: Feed, events: CallbackList, rows: int | None) -> Array:
        """Return the outputs; into one array where the number of `rows` is known."""
        outputs: Array | None = None
        parts: list[Array] = []
        start = 0
        events.on_predict_begin()
        for batch, (part, *_) in enumerate(feed.epoch()):
            events.on_predict_batch_begin(batch)
            y = self._plan(len(part), training=False).output(part)
            if rows is None:
                parts.append(y.copy())
            else:
                if outputs is None:
                    outputs = np.empty((rows, *y.shape[1:]), y.dtype)
                outputs[start : start + len(part)] = y
            start += len(part)
            events.on_predict_batch_end(batch, {})
        events.on_predict_end()
        return np.concatenate(parts) if outputs is None else outputs

    def _predicted_batch(self, batch: Any, number: int) -> Batch:
        x = parts_of(batch, "x", number)[0]
        return (self._fitting_inputs(x, f"x of batch {number}"),)

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

    def _feed(
        self,
        x: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        steps_name: str = "steps_per_epoch",
        shuffle: bool | Literal["batch"] = False,
        class_weight: Mapping[int, float] | None = None,
        prefix: str = "",
    ) -> Feed:
        """Return batches that fit the model, of whatever `fit` and `evaluate` accept."""
        name = f"{prefix}x"
        if not makes_batches(x):
            arrays = self._weighted_arrays(x, y, sample_weight, class_weight, prefix)
            return self._feed_of(arrays, batch_size, steps, steps_name, shuffle)
        kind = kind_of(x)
        for given, value in ((f"{prefix}y", y), (f"{prefix}sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"`{given}` must not be given where `{name}` is a {kind}: it belongs to the "
                    f"batches. Received: {given}={type(value).__name__}"
                )
        if batch_size is not None:
            raise ValueError(_BATCHES_HAVE_A_SIZE.format(kind=kind, size=batch_size))

        def fitting(batch: Any, number: int) -> Batch:
            return self._batch(parts_of(batch, name, number), name, number, class_weight)

        steps = None if steps is None else check_count(steps_name, steps)
        return Feed(
            x, fitting, steps=steps, name=name, shuffle=bool(shuffle), steps_name=steps_name
        )

    def _feed_of(
        self,
        arrays: Batch,
        batch_size: int | None,
        steps: int | None,
        steps_name: str = "steps_per_epoch",
        shuffle: bool | Literal["batch"] = False,
    ) -> Feed:
        size = 32 if batch_size is None else check_count("batch_size", batch_size)
        steps = None if steps is None else check_count(steps_name, steps)
        return Feed(batches_of(arrays, size, shuffle=shuffle), steps=steps)

    def _batch(
        self,
        parts: tuple[Any, ...],
        name: str,
        number: int,
        class_weight: Mapping[int, float] | None,
    ) -> Batch:
        x, y, weights = (*parts, None, None)[:3]
        where = f" of batch {number}"
        if y is None:
            raise ValueError(
                f"Batch {number} of `{name}` must be (x, y) or (x, y, sample_weight): the loss "
                "needs targets. Received: no targets"
            )
        inputs = self._fitting_inputs(x, f"{name}{where}")
        if not len(inputs):
            raise ValueError(f"Batch {number} of `{name}` must hold a sample. Received: none")
        targets = as_targets(y, self.dtype, len(inputs), f"{name.removesuffix('x')}y{where}")
        label = f"{name.removesuffix('x')}sample_weight{where}"
        rows = weights_of(targets, self.dtype, weights, class_weight, label)
        return (inputs, targets) if rows is None else (inputs, targets, rows)

    def _weighted_arrays(
        self,
        x: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        class_weight: Mapping[int, float] | None = None,
        prefix: str = "",
    ) -> Batch:
        if y is None:
            raise ValueError(
                f"`{prefix}y` must be given where `{prefix}x` is an array. Received: None"
            )
        inputs, targets = self._arrays(x, y, prefix)
        name = f"{prefix}sample_weight"
        weights = weights_of(targets, self.dtype, sample_weight, class_weight, name)
        return (inputs, targets) if weights is None else (inputs, targets, weights)

    def _arrays(self, x: ArrayLike, y: ArrayLike, prefix: str = "") -> tuple[Array, Array]:
        inputs = self._fitting_inputs(x, f"{prefix}x")
        return inputs, as_targets(y, self.dtype, len(inputs), f"{prefix}y")

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


def results_of(means: dict[str, float], return_dict: bool) -> Results:
    """Return the means as they are, or without their names; a single one as a number."""
    if return_dict:
        return means
    values = list(means.values())
    return values[0] if len(values) == 1 else values
