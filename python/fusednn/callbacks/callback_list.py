"""Several callbacks called as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fusednn.callbacks.callback import HOOKS, Callback, Logs
from fusednn.callbacks.history import History
from fusednn.callbacks.progress import ProgbarLogger

if TYPE_CHECKING:
    from fusednn.models import Sequential

_C = TypeVar("_C", bound=Callback)


class CallbackList(Callback):
    """Calls several callbacks as one; a hook that none of them overrides costs nothing.

    Parameters
    ----------
    callbacks : Callback or sequence of Callback, optional
    add_history, add_progbar : bool
        Whether to add a `History`, a `ProgbarLogger`, if the list has none.
    model : Sequential, optional
    **params
        Passed to each callback's `set_params`.
    """

    def __init__(
        self,
        callbacks: Callback | Sequence[Callback] | None = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Sequential | None = None,
        **params: Any,
    ) -> None:
        super().__init__()
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(f"`callbacks` must hold Callback objects. Received: {callback!r}")
        self.callbacks: list[Callback] = given
        if add_history and self.find(History) is None:
            self.callbacks.append(History())
        if add_progbar and self.find(ProgbarLogger) is None:
            self.callbacks.append(ProgbarLogger())
        self.callbacks.sort(key=lambda callback: callback.runs_last)
        for callback in self.callbacks:
            callback.companions = self.callbacks
        self.set_params(params)
        if model is not None:
            self.set_model(model)
        for hook in HOOKS:
            setattr(self, hook, _call_all(hook, [getattr(c, hook) for c in self._overriding(hook)]))

    def find(self, kind: type[_C]) -> _C | None:
        """First callback of a class, or None."""
        return next((c for c in self.callbacks if isinstance(c, kind)), None)

    def listens(self, hook: str) -> bool:
        """Whether any callback overrides the hook: else its logs need not be computed."""
        return bool(self._overriding(hook))

    def _overriding(self, hook: str) -> list[Callback]:
        # on_train_batch_end is overridden by on_batch_end as well, which it calls.
        hooks = {hook, hook.replace("on_train_batch", "on_batch")}
        return [
            c
            for c in self.callbacks
            if any(getattr(getattr(c, h), "__func__", None) is not vars(Callback)[h] for h in hooks)
        ]

    def set_model(self, model: Sequential) -> None:
        """Pass the model on."""
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Pass the parameters on."""
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)


def _call_all(hook: str, functions: Sequence[Callable[..., None]]) -> Callable[..., None]:
    """Make one function of several; each is given a dictionary of logs, empty if there are none."""

    def call(logs: Logs | None = None) -> None:
        for function in functions:
            function({} if logs is None else logs)

    def call_numbered(number: int, logs: Logs | None = None) -> None:
        for function in functions:
            function(number, {} if logs is None else logs)

    return call_numbered if "epoch" in hook or "batch" in hook else call
