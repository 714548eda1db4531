"""Types of the arguments that all optimizers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

from numpy.typing import NDArray

from fusednn.ops import QuantizedState

Array: TypeAlias = NDArray[Any]

#: What an optimizer keeps for a variable.
State: TypeAlias = Array | QuantizedState

#: A number, or what returns it when called with the number of steps taken.
LearningRate: TypeAlias = float | Callable[[int], float]


class CommonOptions(TypedDict, total=False):
    """Keyword arguments of every optimizer; `Optimizer` explains them."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    quantized_states: bool
    name: str | None
    lr: LearningRate | None
    decay: float | None


class OptimizerOptions(CommonOptions, total=False):
    """`CommonOptions`, and the weight decay where an optimizer has no default of its own."""

    weight_decay: float | None
