"""What `fit`, `evaluate` and `predict` are given, as batches that fit the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fusednn._arguments import check_count
from fusednn.models.data import Array, Batches, as_targets, batches_of, split_at_end
from fusednn.models.feed import Batch, Feed, kind_of, makes_batches, parts_of
from fusednn.models.weights import weights_of

_BATCHES_HAVE_A_SIZE = (
    "`batch_size` must not be given where `x` is a {kind}: its batches have a size already. "
    "Received: batch_size={size!r}"
)


class Feeder:
    """Base of `Evaluator`: makes feeds of arguments, or refuses what does not fit."""

    # ---- what a subclass provides

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the activations."""
        raise NotImplementedError

    def _fitting_inputs(self, x: ArrayLike, name: str) -> Array:
        """Return `x` as an array that the layers accept; build the model if it is not yet."""
        raise NotImplementedError

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
        steps = None if steps is None else check_count(steps_name, steps)
        size = self._size_of_batches(batch_size, steps, len(arrays[0]))
        return Feed(batches_of(arrays, size, shuffle=shuffle), steps=steps)

    @staticmethod
    def _size_of_batches(batch_size: int | None, steps: int | None, rows: int) -> int:
        """Return the size as given; else what takes all rows in so many steps; else 32."""
        if batch_size is not None:
            return check_count("batch_size", batch_size)
        return 32 if steps is None else max(1, math.ceil(rows / steps))

    def _inputs_alone(
        self, x: Any, batch_size: int | None, steps: int | None
    ) -> tuple[Feed, int | None]:
        """Return batches of one part for `predict`, and the number of rows where it is known."""
        steps = None if steps is None else check_count("steps", steps)
        if makes_batches(x):
            if batch_size is not None:
                raise ValueError(_BATCHES_HAVE_A_SIZE.format(kind=kind_of(x), size=batch_size))
            return Feed(x, self._predicted_batch, steps=steps, steps_name="steps"), None
        inputs = self._fitting_inputs(x, "x")
        size = self._size_of_batches(batch_size, steps, len(inputs))
        rows = len(inputs) if steps is None else min(len(inputs), steps * size)
        return Feed(Batches(inputs, inputs, size, shuffle=False), steps=steps), rows

    def _predicted_batch(self, batch: Any, number: int) -> Batch:
        x = parts_of(batch, "x", number)[0]
        return (self._fitting_inputs(x, f"x of batch {number}"),)

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

    def _training_feeds(
        self,
        x: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        class_weight: Mapping[int, float] | None,
        *,
        batch_size: int | None,
        steps: int | None,
        shuffle: bool | Literal["batch"],
        validation_split: float,
        validation_data: Any,
        validation_options: dict[str, Any],
    ) -> tuple[Feed, Feed | None]:
        """Return what is trained on, and what is evaluated after each epoch."""
        own_size = validation_options["batch_size"]
        if own_size is not None:
            check_count("validation_batch_size", own_size)
        elif validation_data is None or not makes_batches(validation_data):
            validation_options["batch_size"] = batch_size
        options: dict[str, Any] = {"batch_size": batch_size, "steps": steps, "shuffle": shuffle}
        if validation_data is not None or not validation_split:
            feed = self._feed(x, y, sample_weight, class_weight=class_weight, **options)
            if validation_data is None:
                return feed, None
            parts = (validation_data, None)
            if not makes_batches(validation_data):
                parts = _parts(validation_data)
            return feed, self._feed(*parts, prefix="validation_", **validation_options)
        if makes_batches(x):
            raise ValueError(
                "`validation_split` must be 0 where `x` is no array: give `validation_data`. "
                f"Received: validation_split={validation_split}, x={kind_of(x)}"
            )
        arrays = self._weighted_arrays(x, y, sample_weight, class_weight)
        cut = split_at_end(len(arrays[0]), validation_split)
        train, test = tuple(a[:cut] for a in arrays), tuple(a[cut:] for a in arrays)
        if class_weight is not None:
            # Classes weigh in training alone.
            test = test[:2]
        return self._feed_of(train, **options), self._feed_of(test, **validation_options)


def _parts(validation_data: Any) -> Any:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise ValueError(
            "`validation_data` must be a pair (x, y), or (x, y, sample_weight), or give such "
            f"batches. Received: {type(validation_data).__name__}"
        )
    return validation_data
