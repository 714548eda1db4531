"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusednn.callbacks.callback import HOOKS, Callback


class LambdaCallback(Callback):
    """Calls functions given by the names of hooks.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        Functions of epoch and logs.
    on_train_begin, on_train_end : callable, optional
        Functions of the logs.
    on_train_batch_begin, on_train_batch_end : callable, optional
        Functions of batch and logs.
    **kwargs : callable
        The other hooks of `Callback`.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Callable[..., Any] | None,
    ) -> None:
        super().__init__()
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(
                    f"Arguments must be hooks of `Callback`: {', '.join(HOOKS)}. Received: {name}"
                )
            if function is not None:
                setattr(self, name, function)
