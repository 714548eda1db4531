"""The hooks that `Sequential` calls while it trains, evaluates and predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from fusednn.models import Sequential

#: By name, numbers; arrays of metrics that have a number for each class, as `F1Score()`.
Logs = dict[str, Any]


class Callback:
    """Base class: override the hooks you need.

    Attributes
    ----------
    model : Sequential
        The model that calls; setting ``model.stop_training = True`` ends `fit` after this batch.
    params : dict
        ``verbose``, ``epochs`` and ``steps`` (batches an epoch).

    Notes
    -----
    Hooks are called in this order: ``on_train_begin``, then per epoch ``on_epoch_begin``, per batch
    ``on_train_batch_begin`` and ``on_train_batch_end``, then those of the validation
    (``on_test_...``), ``on_epoch_end``, and at last ``on_train_end``. `evaluate` and `predict`
    alone call the ``on_test_...`` and ``on_predict_...`` hooks. Epochs and batches count from 0.

    ``logs`` of a batch or epoch of training holds the running means over the epoch's samples
    so far: ``loss``, the metrics, and at the end of an epoch ``val_loss`` and so on.
    ``on_train_batch_...`` call ``on_batch_...``, as in Keras.
    """

    model: Sequential
    #: All callbacks of the same `fit`, this one included.
    companions: Sequence[Callback] = ()
    #: Whether the hooks are called after those of all other callbacks.
    runs_last: ClassVar[bool] = False

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def set_model(self, model: Sequential) -> None:
        """Take the model that calls."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the parameters of the loop."""
        self.params = params

    def get_state(self) -> dict[str, Any]:
        """Return what a resumed training needs, for `BackupAndRestore`; by default nothing.

        Numbers, strings, None, lists, dictionaries and arrays of numbers, by name.
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned in the training that is gone on with.

        Called after `on_train_begin`, and within an epoch after `on_epoch_begin`. By default the
        attributes of these names are set.
        """
        for name, value in state.items():
            setattr(self, name, value)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """At the start of `fit`."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """At the end of `fit`; logs of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """At the start of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """At the end of an epoch, after the validation."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """As `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """As `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training step."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """At the start of an evaluation or validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """At the end of an evaluation or validation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch is evaluated."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch was evaluated."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """At the start of `predict`."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """At the end of `predict`."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch is predicted."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch was predicted."""


#: Names of all hooks.
HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
