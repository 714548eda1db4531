"""Which products of matrices a model makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusednn.devices import base


def shapes_of_products(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> list[Any]:
    """Rows, inner length and columns of each product that plans made meanwhile compute."""
    made = []
    bound_product = base.bound_product

    def watched(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Callable[[], None]:
        multiply = bound_product(a, b, out)

        def noted() -> None:
            made.append((*a.shape, b.shape[1]))
            multiply()

        return noted

    with monkeypatch.context() as patch:
        patch.setattr(base, "bound_product", watched)
        run()
    return made
