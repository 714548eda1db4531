"""What `compile` takes for several outputs, as it is for the one that a model has here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusednn._arguments import check_number
from fusednn.metrics import Metric


def sole_loss(loss: Any, output: str | None) -> Any:
    """Return the loss of the one output, from a list of one or a dictionary with one name.

    Raises
    ------
    ValueError
        There are several, or the name is not the output's.
    """
    if isinstance(loss, Mapping) and "class_name" in loss:
        return loss
    return _sole("loss", loss, output) if isinstance(loss, (list, tuple, Mapping)) else loss


def loss_weight(loss_weights: Any, output: str | None) -> float:
    """Return the number that the loss is multiplied by: 1 where there is none."""
    if loss_weights is None:
        return 1.0
    if isinstance(loss_weights, (list, tuple, Mapping)):
        loss_weights = _sole("loss_weights", loss_weights, output)
    return check_number("loss_weights", loss_weights)


def sole_metrics(name: str, given: Any, output: str | None) -> Sequence[Any]:
    """Return the metrics of the one output: a list, or what a dictionary or a list holds for it."""
    if isinstance(given, str):
        raise TypeError(f"`{name}` must be a list. Received: {name}={given!r}")
    if isinstance(given, Mapping):
        given = _sole(name, given, output)
        return given if isinstance(given, (list, tuple)) else [given]
    found = list(given or ())
    if len(found) == 1 and isinstance(found[0], (list, tuple)):
        return list(found[0])
    return found


def are_metrics(loss_weights: Any) -> bool:
    """Whether the third argument of `compile` are metrics, which they are in Keras 2."""
    listed = loss_weights if isinstance(loss_weights, (list, tuple)) else ()
    return any(isinstance(m, (str, Metric)) or callable(m) for m in listed)


def _sole(name: str, given: Any, output: str | None) -> Any:
    if len(given) != 1:
        raise ValueError(
            f"`{name}` must be of the one output that a model has here. "
            f"Received: {len(given)}, {name}={given!r:.200}"
        )
    if not isinstance(given, Mapping):
        return given[0]
    [(key, value)] = given.items()
    if output is not None and key != output:
        raise ValueError(
            f"`{name}` must name the model's output, '{output}' (its last layer). "
            f"Received: {name}={given!r:.200}"
        )
    return value
