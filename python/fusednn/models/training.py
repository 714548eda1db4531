"""Compile and fit: one training step, and the loops over batches and epochs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fusednn import optimizers
from fusednn._arguments import check_count
from fusednn.callbacks import CallbackList, History, TerminateOnNaN
from fusednn.callbacks.resumed import Resumed
from fusednn.models.data import Array
from fusednn.models.evaluation import Callbacks, Evaluator, Results, results_of
from fusednn.models.feed import Feed
from fusednn.models.objective import Objective
from fusednn.models.sole_output import are_metrics, loss_weight, sole_loss, sole_metrics
from fusednn.models.watch import Watch
from fusednn.models.weights import weights_of
from fusednn.optimizers import Optimizer
from fusednn.variable import Variable


class Trainer(Evaluator):
    """Base of `Sequential`: everything that needs an optimizer.

    Attributes
    ----------
    optimizer : Optimizer or None
        Set by `compile`.
    history : History or None
        What the latest `fit` returned.
    stop_training : bool
        A callback sets it to end `fit` after the current batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.optimizer: Optimizer | None = None
        self.history: History | None = None
        self._watch: Watch | None = None
        self.stop_training = False
        #: Set by a callback at the start of `fit`, where it goes on from another process.
        self.resumed: Resumed | None = None
        self._feed_in_use: Feed | None = None

    # ---- what a subclass provides

    def _start_training(self) -> None:
        """Note which layers are trainable now, and forget all plans."""
        raise NotImplementedError

    def _warn_of_changes(self) -> None:
        """Warn where layers are trainable that were not when the model was compiled, or not now."""
        raise NotImplementedError

    def _output_name(self) -> str | None:
        """Return the name of the last layer, which is the output's; None without layers."""
        raise NotImplementedError

    def _training_lists(self) -> tuple[tuple[Array, ...], tuple[Variable, ...]]:
        """Return gradients and variables of the layers that train; the same tuples every time."""
        raise NotImplementedError

    # ---- compile

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Sequence[Any] | Mapping[str, Any] | None = None,
        weighted_metrics: Sequence[Any] | Mapping[str, Any] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Choose what training minimises, how, and what it reports.

        Parameters
        ----------
        optimizer : str or Optimizer
            See `fusednn.optimizers`.
        loss : str, Loss or loss function
            See `fusednn.losses`; or a list of one, or a dictionary with the name of the last layer,
            as Keras takes them of models with several outputs (so, too, the next three). Where the
            model ends with the activation that the loss belongs to (softmax or sigmoid and its
            cross-entropy), both are computed as one, from logits.
        loss_weights : float, optional
            What the loss, as it is reported, too, and its gradients are multiplied by; penalties
            are not. A list of metrics is taken for `metrics`, which are Keras 2's third argument.
        metrics : sequence of str, Metric or function, optional
            See `fusednn.metrics`; "accuracy" or "acc" is resolved from the shapes of labels and
            output. "loss" is accepted and adds nothing, the loss is always reported.
        weighted_metrics : sequence of str or Metric, optional
            Metrics that count samples by their weights, as the loss does; `metrics` do not.
        run_eagerly, jit_compile, auto_scale_loss
            Have no effect: there is no graph to compile, and no mixed precision.
        steps_per_execution : int
            Batches between calls of callbacks, `on_train_batch_begin` of the first one and
            `on_train_batch_end` of the last one, and likewise in `evaluate` and `predict`; at
            least 1. More spare the time of callbacks and of the progress bar. (The last ones of an
            epoch may be fewer. Keras calls the end by the number that the last would have had.)

        Notes
        -----
        A change of a layer's `trainable` takes effect here; training warns where there was one
        since. Compile again after adding or removing layers. (So it is in Keras 2, and documented
        in Keras 3, where it depends on the backend: on PyTorch frozen layers stay as they are at
        once, on JAX training fails.)
        """
        steps = check_count("steps_per_execution", steps_per_execution)
        if metrics is None and are_metrics(loss_weights):
            metrics, loss_weights = loss_weights, None
        output = self._output_name()
        loss = sole_loss(loss, output)
        if loss is None:
            raise ValueError(
                "`loss` must be a loss, or the name of one, such as 'mean_squared_error'. "
                "Received: loss=None"
            )
        factor = loss_weight(loss_weights, output)
        counted = sole_metrics("metrics", metrics, output)
        weighted = sole_metrics("weighted_metrics", weighted_metrics, output)
        chosen = optimizers.get(optimizer)
        self._objective = Objective(loss, counted, weighted, factor)
        self.optimizer = chosen
        self.steps_per_execution = steps
        self._start_training()

    # ---- fit

    def fit(
        self,
        x: Any,
        y: ArrayLike | None = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | Literal["batch"] = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: ArrayLike | None = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
    ) -> History:
        """Train for whole epochs.

        Parameters
        ----------
        x : array_like, or source of batches
            Samples along the first axis; converted to the model's dtype once. CuPy's stay on the
            GPU where that is the current device (`fusednn.device`), and are copied to the host
            where it is not; targets and weights always are, once, for the loss. Or what gives
            batches ``(x, y)`` or ``(x, y, sample_weight)``, each converted when it is used:

            - a `fusednn.data.Dataset`;
            - a sequence of batches, with ``__getitem__`` and ``__len__``, such as a
              `fusednn.utils.PyDataset`; its `on_epoch_begin` and `on_epoch_end` are called;
            - an iterable, such as a ``DataLoader`` of PyTorch, which is started for each epoch;
            - a generator or another iterator, which goes on from epoch to epoch; training stops
              where it ends.
        y : array_like
            One target per sample; integers stay integers. Only where `x` is an array.
        batch_size : int, optional
            Of arrays; if not given, 32, or with `steps_per_epoch` what takes in all samples. The
            last batch of an epoch may be smaller.
        epochs : int
            Number of the last epoch: with `initial_epoch`, ``epochs - initial_epoch`` are run.
        verbose : {"auto", 0, 1, 2}
            0 silent, 1 a progress bar, 2 a line per epoch; see `callbacks.ProgbarLogger`.
        callbacks : Callback or list of Callback, optional
        validation_split : float
            In [0, 1): this part at the end of the data, before shuffling, is not trained on but
            evaluated after each epoch. Ignored where `validation_data` is given, as in Keras. For
            arrays only.
        validation_data : tuple of array_like, or source of batches, optional
            ``(x, y)`` or ``(x, y, sample_weight)``, or what `x` may be, to evaluate after each
            epoch. An iterator goes on from one evaluation to the next.
        shuffle : bool or "batch"
            Draw a new order for each epoch from `fusednn.utils.random_generator`: of the samples of
            arrays, or of the batches of a sequence. "batch": batches of arrays are neighbouring
            samples, and come in a new order. Other sources shuffle for themselves.
        class_weight : dict of float by int, optional
            What the losses of samples of each class are multiplied by; 1 where a class is missing.
            (Keras does not take it with generators.)
        sample_weight : array_like, optional
            What the loss of each sample is multiplied by; not with `class_weight`. A mean loss is
            divided by the number of samples all the same, as in Keras.
        initial_epoch : int
            Number of the first epoch, from 0.
        steps_per_epoch : int, optional
            Batches that make an epoch, instead of all; the next epoch goes on where this one
            stopped. Where the data end within an epoch, it is short, a warning says so, and the
            next one starts at their beginning, as in Keras. Needed where the data never end.
        validation_steps : int, optional
            Batches that make an evaluation, instead of all, from the first one on.
        validation_batch_size : int, optional
            `batch_size` if not given.
        validation_freq : int or collection of int
            Evaluate after every so many epochs; or after these, counted from 1.

        Returns
        -------
        History
            ``history`` maps "loss", each metric, "val_loss", ... to one number per epoch. Those
            of training are running means over the epoch's samples, while the weights moved.

        Raises
        ------
        FloatingPointError
            If the loss of a batch is NaN or infinite; epoch and batch are named, and that step is
            not applied. With a `TerminateOnNaN` callback, training ends instead. (Keras goes on.)
        ValueError, TypeError
            If data or an argument do not fit.

        Notes
        -----
        After the first step of each batch size no array is allocated that grows with the batch:
        shuffled batches, products, gradients, losses and metrics go to memory that is kept (see
        `plan.Plan`), or are computed a few rows at a time. Functions of the caller's, and the
        weights that `train_on_batch` makes of `class_weight`, are exceptions.

        NumPy's matrix products use as many threads as its BLAS is set to. That is a setting of the
        whole process, and `fit` leaves it alone. On free cores, more threads are faster for all
        but the smallest models. OpenBLAS' threads wait for each other, however: where another
        process wants one of the cores, a step may take many times as long as with one thread.
        Then set ``OPENBLAS_NUM_THREADS=1`` before Python starts, or run `fit` inside
        ``threadpool_limits(1, user_api="blas")`` of threadpoolctl. The kernels' threads
        (`set_num_threads`) never wait for one that was not given a core in time.

        Where the cores are free, `fusednn.utils.share_blas_threads` makes `fit` faster: products
        and kernels then run on one set of threads.
        """
        objective = self._compiled()
        self._warn_of_changes()
        epochs = check_count("epochs", epochs, minimum=0)
        initial_epoch = check_count("initial_epoch", initial_epoch, minimum=0)
        if shuffle != "batch" and not isinstance(shuffle, (bool, np.bool_)):
            raise ValueError(
                f"`shuffle` must be True, False or 'batch'. Received: shuffle={shuffle!r}"
            )
        evaluates = _evaluation_epochs(validation_freq)
        feed, tested = self._training_feeds(
            x,
            y,
            sample_weight,
            class_weight,
            batch_size=batch_size,
            steps=steps_per_epoch,
            shuffle="batch" if shuffle == "batch" else bool(shuffle),
            validation_split=validation_split,
            validation_data=validation_data,
            validation_options={
                "batch_size": validation_batch_size,
                "steps": validation_steps,
                "steps_name": "validation_steps",
            },
        )
        if tested is not None:
            tested.check_evaluations(sum(map(evaluates, range(initial_epoch, epochs))))
        events = self._events(callbacks, verbose, add_history=True, epochs=epochs, steps=feed.steps)
        history = events.find(History)
        assert history is not None
        self.history = history
        self.stop_training = False
        logs: dict[str, Any] = {}
        self.resumed = None
        self._feed_in_use = feed
        with closing(feed), closing(tested or feed):
            events.on_train_begin()
            first, done = self._go_on(feed, initial_epoch)
            for epoch in range(first, epochs):
                if feed.ended:
                    feed.warn()
                    break
                objective.reset()
                events.on_epoch_begin(epoch)
                if not self._run_epoch(feed, events, f"epoch {epoch + 1}/{epochs}", done):
                    break
                done = 0
                events.params["steps"] = feed.steps
                logs = objective.means()
                if tested is not None and evaluates(epoch) and not tested.ended:
                    tested.restart()
                    results = self._evaluate(tested, events)
                    logs |= {f"val_{name}": value for name, value in results.items()}
                events.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
            if self.optimizer is not None and self.optimizer.use_ema:
                self.optimizer.finalize_variable_values(self._training_lists()[1])
            events.on_train_end(logs)
        return history

    @property
    def feed_place(self) -> dict[str, Any]:
        """Where the latest `fit` is in its data; see `Feed.place`."""
        return {} if self._feed_in_use is None else self._feed_in_use.place()

    def _go_on(self, feed: Feed, initial_epoch: int) -> tuple[int, int]:
        """Return the first epoch, and how many of its batches another process made."""
        resumed = self.resumed
        if resumed is None:
            return initial_epoch, 0
        if resumed.epoch < initial_epoch:
            resumed.restore()
            return initial_epoch, 0
        feed.go_to(resumed.place, resumed.batch)
        resumed.restore()
        if resumed.stopped:
            return sys.maxsize, 0
        return resumed.epoch, resumed.batch

    def _run_epoch(self, feed: Feed, events: CallbackList, where: str, done: int = 0) -> int:
        """Train for an epoch, of which `done` batches are done; return how many it had."""
        objective = self._compiled()
        tolerant = events.find(TerminateOnNaN) is not None
        batch_logs = events.listens("on_train_batch_end")
        every, told = self.steps_per_execution, done
        taken = done
        for batch, arrays in enumerate(feed.epoch(done), done):
            if taken == told:
                events.on_train_batch_begin(batch)
            loss = self._train_step(*arrays)
            taken += 1
            if not (tolerant or math.isfinite(loss)):
                of = "" if feed.steps is None else f"/{feed.steps}"
                raise FloatingPointError(
                    f"The loss is {loss} in {where}, batch {batch + 1}{of}. The weights are "
                    "those before this batch. Look for NaN or infinity in the data, or train with "
                    "a smaller learning rate or clipped gradients."
                )
            if taken - told == every:
                told = taken
                if batch_logs:
                    events.on_train_batch_end(batch, objective.means())
                if self.stop_training:
                    break
        if taken > told and batch_logs:
            events.on_train_batch_end(taken - 1, objective.means())
        return taken

    def _train_step(self, x: Array, y: Array, weights: Array | None = None) -> float:
        """Make one update, none where loss or labels are not usable; return the loss."""
        objective, optimizer = self._compiled(), self.optimizer
        assert optimizer is not None
        plan = self._plan(len(x), training=True)
        plan.watch, self._watch = self._watch, None
        with np.errstate(all="ignore"):  # the loss tells what is not finite
            z = plan.forward(x)
            stepped = False
            try:
                loss = objective.evaluate(plan, y, z, gradient=True, weights=weights)
                loss += self._penalty(plan)
                objective.record(plan, y, z, loss, weights)
                if math.isfinite(loss):
                    plain = optimizer.loss_scale_factor is None
                    with nullcontext() if plain else optimizer.plain_gradients():
                        plan.update(self._penalties(), optimizer, *self._training_lists())
                    stepped = True
            finally:
                if not stepped:
                    plan.undo()
        return loss

    def watch_next_step(self, watch: Watch) -> None:
        """Let somebody look at the arrays of the next training step; see `models.watch`."""
        self._watch = watch

    def train_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Results:
        """Make one training step on all of `x`; arguments as of `fit`, returns as `evaluate`.

        Notes
        -----
        The numbers are those of this batch alone, before the update (Keras 3 returns running
        means over all calls). A loss that is not finite is returned, and the step not applied.
        """
        objective = self._compiled()
        self._warn_of_changes()
        inputs, targets = self._arrays(x, y)
        weights = weights_of(targets, self.dtype, sample_weight, class_weight)
        objective.reset()
        self._train_step(inputs, targets, weights)
        return results_of(objective.means(), return_dict)


def _evaluation_epochs(frequency: Any) -> Callable[[int], bool]:
    """Return a function that tells whether there is an evaluation after an epoch, from 0."""
    if isinstance(frequency, (list, tuple, set, frozenset, range)):
        chosen = {check_count("validation_freq", epoch) for epoch in frequency}
        return lambda epoch: epoch + 1 in chosen
    every = check_count("validation_freq", frequency)
    return lambda epoch: (epoch + 1) % every == 0
