"""Keras' name of what all models are."""

from __future__ import annotations

from typing import Any


class Model:
    """Base of `Sequential`, the one kind of model: ``isinstance(model, Model)`` as in Keras.

    There is no functional API, which needs differentiation of any graph: ``Model(inputs,
    outputs)`` is refused. A model with a forward pass of its own is a subclass of `Sequential`
    that overrides `call`, and `backward` where it does more than ``super().call``.

    Raises
    ------
    NotImplementedError
        By a call, and by one of a subclass that is no `Sequential`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from fusednn.models.sequential import Sequential

        if not isinstance(self, Sequential):
            raise NotImplementedError(
                f"`{type(self).__name__}` must be a `Sequential`: there is no functional API, and "
                "models of your own are subclasses of `Sequential` that override `call` (and "
                "`backward`)."
            )
        super().__init__()
