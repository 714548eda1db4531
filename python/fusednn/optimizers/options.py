"""The arguments that all optimizers share: types, and what is checked of several."""

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

#: Keras' options that do not exist here, and what to do.
ABSENT = {
    "loss_scale_factor": "gradients are float32 or float64, which need no scale",
    "gradient_accumulation_steps": "take a larger `batch_size`, or sum gradients for `apply`",
}


class CommonOptions(TypedDict, total=False):
    """Keyword arguments of every optimizer; `Optimizer` explains them."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    quantized_states: bool
    name: str | None
    lr: LearningRate | None
    decay: float | None


class OptimizerOptions(CommonOptions, total=False):
    """`CommonOptions`, and the weight decay where an optimizer has no default of its own."""

    weight_decay: float | None


def check_together(
    clipnorm: float | None,
    clipvalue: float | None,
    global_clipnorm: float | None,
    ema_overwrite_frequency: int | None,
) -> None:
    """Raise ValueError where two ways of clipping are set, or the frequency is no count."""
    if sum(limit is not None for limit in (clipnorm, clipvalue, global_clipnorm)) > 1:
        raise ValueError(
            "Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. Received: "
            f"clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
        )
    if ema_overwrite_frequency is not None and (
        not isinstance(ema_overwrite_frequency, int) or ema_overwrite_frequency < 1
    ):
        raise ValueError(
            "`ema_overwrite_frequency` must be an integer >= 1 or None. "
            f"Received: ema_overwrite_frequency={ema_overwrite_frequency}"
        )
