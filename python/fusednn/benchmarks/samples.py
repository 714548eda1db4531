"""What an answer holds of all that a contender has computed.

Comparing whole results would take longer than timing them. BatchNorm treats channels alike, an
optimizer elements: a few channels as a whole, and the ends of a few arrays, are kept; of a
training, the losses of its first steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusednn.benchmarks.contender import Answer, as_float64
from fusednn.benchmarks.inputs import ENDS, Activations

#: Added to a name: how much further the answer of that name may be off, element by element.
SLACK = " slack"
#: Updates made before parameters are compared: two, so that states count, the second one with
#: `inputs.turned` gradients.
OPTIMIZER_STEPS = 2
#: Steps of a training whose losses are compared.
TRAINING_STEPS = 3


def sample_channels(inputs: Activations, results: Mapping[str, Any]) -> Answer:
    """Keep a few channels of arrays of the input's shape, or of one number per channel."""
    layout = inputs.layout
    answer = {}
    for name, array in results.items():
        axis = layout.channel_axis if np.ndim(array) == len(layout.shape) else 0
        answer[name] = as_float64(np.take(np.asarray(array), inputs.sample_channels, axis=axis))
    return answer


def sampled(arrays: Sequence[Any]) -> list[Any]:
    """Return the arrays of a list that answers have something of: first, middle and last."""
    return [arrays[i] for i in sorted({0, len(arrays) // 2, len(arrays) - 1})]


def sample_arrays(arrays: Sequence[Any]) -> list[NDArray[Any]]:
    """Keep the ends of the arrays that are `sampled`."""
    kept = []
    for array in sampled(arrays):
        flat = np.asarray(array).reshape(-1)
        kept.append(as_float64(np.concatenate([flat[:ENDS], flat[-ENDS:]])))
    return kept


def sample_lists(**lists: Sequence[Any] | None) -> Answer:
    """Keep a few elements of an optimizer's parameters (``params``), averages and copies."""
    return {
        name: np.concatenate(sample_arrays(arrays))
        for name, arrays in lists.items()
        if arrays is not None
    }
