"""The range test: how high a learning rate may be (Smith 2015)."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_count, check_number
from fusednn.data import INFINITE_CARDINALITY
from fusednn.models.data import Array, Batches
from fusednn.models.feed import Batch, length_of, makes_batches
from fusednn.models.sequential import Sequential


@dataclass(frozen=True)
class LearningRateTest:
    """Losses of batches, each trained on with a higher rate than the one before.

    Attributes
    ----------
    rates, losses : ndarray
        One number a batch, in their order.
    """

    rates: Array
    losses: Array

    @property
    def smoothed(self) -> Array:
        """Averages of the losses so far, in which each counts 0.95 times the one after it."""
        average, weight, values = 0.0, 0.0, []
        for loss in self.losses:
            average, weight = 0.95 * average + 0.05 * loss, 0.95 * weight + 0.05
            values.append(average / weight)
        return np.array(values)

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the smoothed loss is lowest, about where it starts to rise.

        A rate for training, or the `max_learning_rate` of a `OneCycle`.
        """
        return float(self.rates[int(self.smoothed.argmin())]) / 10


def find_learning_rate(
    model: Sequential,
    x: Any,
    y: ArrayLike | None = None,
    *,
    min_rate: float = 1e-6,
    max_rate: float = 10.0,
    steps: int = 200,
    batch_size: int = 32,
    stop_factor: float = 4.0,
) -> LearningRateTest:
    """Train a copy of a model with a rate that grows by the same factor each batch.

    Parameters
    ----------
    model : Sequential
        Compiled. A copy is trained: the model, its optimizer and its layers stay as they are.
    x, y : array_like, or source of batches
        As of `Sequential.fit`; arrays are shuffled. Started again where they end; with a generator,
        which cannot, the test ends.
    min_rate, max_rate : float
        > 0; the first rate and the last one.
    steps : int
        Number of batches, at least 2.
    batch_size : int
        Of arrays.
    stop_factor : float
        > 1: the test ends early where the smoothed loss is so many times its lowest value, or a
        loss is not finite.

    Returns
    -------
    LearningRateTest
        Rates, losses, and a `suggestion`.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or the model is not compiled.

    Notes
    -----
    The optimizer may follow a schedule; the test's rates take its place. (Keras has no such
    function.)
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"`model` must be a Sequential. Received: {model!r}")
    low = check_number("min_rate", min_rate, above=0)
    high = check_number("max_rate", max_rate, above=low)
    steps = check_count("steps", steps, minimum=2)
    factor = check_number("stop_factor", stop_factor, above=1)
    model._compiled()
    with closing(_batches(model, x, y, check_count("batch_size", batch_size), steps)) as batches:
        # Whether the data fit is found out before the copy is made.
        first = next(batches)
        return _test(model, first, batches, np.geomspace(low, high, steps), factor)


def _batches(
    model: Sequential, x: Any, y: ArrayLike | None, size: int, steps: int
) -> Generator[Batch, None, None]:
    """Yield batches that fit the model, without end but for those of an iterator."""
    if not makes_batches(x):
        if y is None:
            raise ValueError("`y` must be given where `x` is an array. Received: None")
        yield from Batches(*model._arrays(x, y), size, shuffle=True).endless()
        return
    # What has no end of its own makes an epoch of all steps.
    given = steps if length_of(x) == INFINITE_CARDINALITY else None
    with closing(model._feed(x, y, steps=given, steps_name="steps", shuffle=True)) as feed:
        while not feed.ended:
            yield from feed.epoch()
            if hasattr(x, "__next__"):
                return


def _test(
    model: Sequential, batch: Batch | None, batches: Iterator[Batch], rates: Array, factor: float
) -> LearningRateTest:
    trial = copy.deepcopy(model)
    optimizer = trial.optimizer
    assert optimizer is not None
    first, steps = optimizer.iterations, len(rates)
    # The last step asks for no further rate, but a step that was not made asks again.
    optimizer.learning_rate = lambda taken: float(rates[min(taken - first, steps - 1)])
    losses: list[float] = []
    average = weight = 0.0
    lowest = math.inf
    for _ in range(steps):
        if batch is None:
            break
        inputs, targets, *rest = batch
        weights = rest[0] if rest else None
        results = trial.train_on_batch(inputs, targets, weights, return_dict=True)
        batch = next(batches, None)
        assert isinstance(results, dict)
        loss = results["loss"]
        if not math.isfinite(loss):
            break
        losses.append(loss)
        average, weight = 0.95 * average + 0.05 * loss, 0.95 * weight + 0.05
        lowest = min(lowest, average / weight)
        if average / weight > factor * lowest:
            break
    if not losses:
        raise ValueError(
            "The loss is not finite before any step: look for NaN or infinity in the data."
        )
    return LearningRateTest(rates[: len(losses)], np.array(losses))
