"""The options that all optimizer steps share, by name; `ops.optimizer` says what each does."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from fusednn.ops.arrays import Array
from fusednn.ops.quantized_state import QuantizedState

Arrays = Sequence[Array]
States = Sequence[Array | QuantizedState]
#: A number, or an array of one float32 on a GPU.
Scalar = float | Array
Steps = int | Sequence[int] | Array


class StepOptions(TypedDict, total=False):
    """Options that every step takes; see `ops.optimizer`."""

    convention: str
    weight_decay: float
    decoupled_weight_decay: bool | None
    maximize: bool
    grad_scale: Scalar | None
    found_inf: Array | None
    clip_value: float | None
    max_norm_each: float | None
    max_norm: float | None
    skip_nonfinite: bool
    ema: Arrays | None
    ema_momentum: float | None
    low_precision_copies: Arrays | None
    stochastic_rounding_seed: int | None


_NAMES = frozenset(StepOptions.__annotations__)


def check_option_names(function: str, options: Mapping[str, object]) -> None:
    """Raise Python's own TypeError for a name that is no option, naming who was called."""
    if not _NAMES.issuperset(options):
        unknown = next(name for name in options if name not in _NAMES)
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown!r}")
