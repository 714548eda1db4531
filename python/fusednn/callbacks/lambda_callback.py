"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusednn.callbacks.callback import HOOKS, Callback


class LambdaCallback(Callback):
    """Calls functions given by the names of hooks.

    Parameters
    ----------
    **hooks : callable
        ``on_epoch_begin=lambda epoch, logs: ...`` and so on, as in `Callback`; None is no function.
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(
                    f"Arguments must be hooks of `Callback`: {', '.join(HOOKS)}. Received: {name}"
                )
            if function is not None:
                setattr(self, name, function)
