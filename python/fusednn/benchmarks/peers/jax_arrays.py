"""From a case's arrays to JAX's."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fusednn.benchmarks.case import Case
from fusednn.benchmarks.inputs import Array


def use_dtype(case: Case) -> None:
    """Let JAX have float64 only where the case has it: what it costs is not measured elsewhere."""
    jax.config.update("jax_enable_x64", case.dtype == "float64")


def device_array(array: Array) -> Any:
    """Return a copy that JAX owns."""
    # JAX may take the memory of what it is given for its own: here of a copy.
    return jax.device_put(np.array(array), jax.devices("cpu")[0]).block_until_ready()


class Latest:
    """Holds the latest result, which JAX may still be computing."""

    def __init__(self) -> None:
        self.result: Any = None

    def wait(self) -> None:
        """Wait for it."""
        jax.block_until_ready(self.result)
