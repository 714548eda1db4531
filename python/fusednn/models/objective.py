"""What a model is compiled for: its loss and metrics, and their means over an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn import losses, metrics
from fusednn.losses.base import row_weights
from fusednn.metrics import Metric, PlaceAccuracy
from fusednn.models.data import Array
from fusednn.models.plan import Plan

#: What stands for one of three metrics, see `resolve_accuracy`.
_ACCURACY = ("accuracy", "acc")


class Objective:
    """A loss, metrics, and the mean of each over the samples seen since `reset`.

    Parameters
    ----------
    loss : str, Loss or callable
        See `fusednn.losses`.
    metrics_given : sequence
        Names or `Metric` objects. "accuracy" and "acc" are resolved at the first batch from the
        shapes of labels and output; "loss" names what is reported anyway, and adds nothing.
    weighted_given : sequence
        The same, of metrics that sample weights count in; the others disregard them.
    factor : float
        What the loss and its gradients are multiplied by.
    """

    def __init__(
        self,
        loss: Any,
        metrics_given: Sequence[Any],
        weighted_given: Sequence[Any] = (),
        factor: float = 1.0,
    ) -> None:
        self.loss = losses.get(loss)
        self.factor = factor
        if not self.loss.reduces:
            raise ValueError(
                f"`reduction` of the loss '{self.loss.name}' must not be 'none' in a model, which "
                f"trains with one number. Received: reduction={self.loss.reduction!r}"
            )
        #: The mean loss of the samples so far.
        self.loss_tracker = metrics.Mean("loss")
        self._given = [m for m in metrics_given if m != "loss"]
        self._unweighted = len(self._given)  # the first metrics
        self._given += weighted_given
        self.metrics: list[Metric] | None = None
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        if not any(m in _ACCURACY for m in self._given if isinstance(m, str)):
            self._resolve((), ())
        self.reset()

    @property
    def logits_activation(self) -> str | None:
        """Name of the last activation that the loss computes itself; None if it does not."""
        return None if self.loss.from_logits else self.loss.link

    def described(self, resolved: bool = False) -> tuple[list[Any], list[Any]]:
        """Return the metrics and the weighted metrics as they were given.

        With `resolved`, "accuracy" is the metric that it stands for, as soon as that is known.
        """
        listed = list(self._given)
        if resolved and self.metrics is not None:
            pairs = zip(self._given, self.metrics, strict=True)
            listed = [metric if given in _ACCURACY else given for given, metric in pairs]
        return listed[: self._unweighted], listed[self._unweighted :]

    def reset(self) -> None:
        """Start new means."""
        self._named: list[tuple[str, Metric]] | None = None
        self.loss_tracker.reset_state()
        for metric in self.metrics or ():
            metric.reset_state()

    def get_state(self) -> dict[str, Any]:
        """Return the means so far, for `set_state` in another process."""
        return {
            "loss": self.loss_tracker.get_state(),
            "shapes": self._shapes,
            "metrics": [metric.get_state() for metric in self.metrics or ()],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the means of another process."""
        self.loss_tracker.set_state(state["loss"])
        if self.metrics is None and state["shapes"] is not None:
            self._resolve(*map(tuple, state["shapes"]))
        for metric, own in zip(self.metrics or (), state["metrics"], strict=True):
            metric.set_state(own)

    def evaluate(
        self,
        plan: Plan,
        y_true: Array,
        z: Array,
        *,
        gradient: bool,
        weights: Array | None = None,
    ) -> float:
        """Return the mean loss of a batch, and leave its gradient in ``plan.grad_output``.

        Parameters
        ----------
        plan : Plan
        y_true : ndarray
            Targets of the batch.
        z : ndarray
            What ``plan.forward`` returned.
        gradient : bool
            Whether the gradient is wanted.
        weights : ndarray or None
            One for each sample.
        """
        rows = None if weights is None else row_weights(weights, z.shape, plan.scratch)
        value = self.loss.evaluate(
            y_true,
            z,
            plan.scratch,
            from_logits=plan.returns_logits or self.loss.from_logits,
            grad=plan.grad_output if gradient else None,
            weights=rows,
        )
        if self.factor == 1:
            return value
        if gradient:
            plan.grad_output *= plan.grad_output.dtype.type(self.factor)
        return value * self.factor

    def record(
        self, plan: Plan, y_true: Array, z: Array, loss: float, weights: Array | None = None
    ) -> None:
        """Count a batch, whose loss is known, into the means."""
        self.loss_tracker.total += loss * len(y_true)
        self.loss_tracker.count += len(y_true)
        if self.metrics is None:
            self._resolve(y_true.shape, plan.output_shape)
        assert self.metrics is not None
        if not self.metrics:
            return
        # The largest logit is the largest probability, and the loss has looked for it already.
        best = plan.scratch.best
        y_pred: Array | None = None
        for i, metric in enumerate(self.metrics):
            own = weights if i >= self._unweighted else None
            if best is not None and isinstance(metric, PlaceAccuracy):
                metric.update_places(y_true, best.reshape(z.shape[:-1]), z.shape[-1], own)
                continue
            y_pred = plan.activate(z) if y_pred is None else y_pred
            if own is None:
                metric.update_state(y_true, y_pred)
            else:
                metric.update_state(y_true, y_pred, sample_weight=own)

    def means(self) -> dict[str, Any]:
        """Loss and metrics by name, the loss first; of some metrics an array."""
        means: dict[str, Any] = {"loss": self.loss_tracker.result()}
        if self._named is None:
            # For the batches from here to the next `reset`, as callbacks are told of each.
            self._named = list(zip(self.names[1:], self.metrics or (), strict=False))
        for name, metric in self._named:
            value: Any = metric.result()
            means[name] = np.array(value) if np.ndim(value) else float(value)
        return means

    @property
    def names(self) -> list[str]:
        """Names in the order of `means`."""
        listed = self._given if self.metrics is None else self.metrics
        own = [m if isinstance(m, str) else metrics.get(m).name for m in listed]
        return ["loss", *self._told_apart(own)]

    def _told_apart(self, names: list[str]) -> list[str]:
        """Return names that differ, as Keras makes them: `weighted_` before, a number behind."""
        taken: dict[str, int] = {}
        apart = []
        for i, own in enumerate(names):
            name = f"weighted_{own}" if own in taken and i >= self._unweighted else own
            count = taken.setdefault(name, 0)
            taken[name] += 1
            apart.append(f"{name}_{count}" if count else name)
        return apart

    def _resolve(self, labels: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        self._shapes = labels, outputs
        resolved: list[Metric] = []
        for given in self._given:
            if given in _ACCURACY:
                metric = metrics.resolve_accuracy(labels, outputs)
            else:
                metric = metrics.get(given)
            if isinstance(given, str):
                metric.name = given  # reported under the name that the user gave it, as in Keras
            resolved.append(metric)
        if any(m.name == "loss" for m in resolved):
            raise ValueError(
                "`metrics` must have other names than 'loss', which is the loss'. "
                f"Received: {[m.name for m in resolved]}"
            )
        self.metrics = resolved
        self._named = None
