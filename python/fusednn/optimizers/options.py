"""The arguments that all optimizers share: types, and what is checked of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from fusednn._arguments import check_count
from fusednn.ops import QuantizedState

Array: TypeAlias = NDArray[Any]

#: What an optimizer keeps for a variable.
State: TypeAlias = Array | QuantizedState

#: Options of all optimizers that Keras does not have.
OWN_OPTIONS = ("quantized_states", "skip_nonfinite", "stochastic_rounding_seed")

#: A number, or what returns it when called with the number of steps taken, or with nothing.
LearningRate: TypeAlias = float | Callable[[int], float] | Callable[[], float]


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
    skip_nonfinite: bool
    stochastic_rounding_seed: int | None
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


def check_accumulation(steps: Any) -> int | None:
    """Return `gradient_accumulation_steps` where it is an integer >= 2; None for None, 0, False."""
    if steps is None or (isinstance(steps, (bool, int, np.integer)) and not steps):
        return None
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 2:
        raise ValueError(
            "`gradient_accumulation_steps` must be an integer >= 2 or None. "
            f"Received: gradient_accumulation_steps={steps!r}"
        )
    return int(steps)


def check_seed(seed: Any) -> int | None:
    """Return `stochastic_rounding_seed`, None or an integer of 64 bits."""
    if seed is None:
        return None
    number = check_count("stochastic_rounding_seed", seed, minimum=0)
    if number >= 2**64:
        raise ValueError(
            "`stochastic_rounding_seed` must be in [0, 2**64). "
            f"Received: stochastic_rounding_seed={seed}"
        )
    return number
