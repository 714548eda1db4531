"""Lists of an optimizer with random numbers, and comparisons of what two of them hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from optimizer_calls import CODES, Lists, quantized_zeros

from optimizer_formulas import step_number
from reference import initial_states

SIZES = (300, 0, 1, 7, 1030, 97)


def assert_same(ours: dict[str, list], theirs: dict[str, list], rtol: float = 0.0) -> None:
    """Every array of the two has the same bits, or is near by where `rtol` is given."""
    assert ours.keys() == theirs.keys()
    for name, arrays in ours.items():
        for i, (a, b) in enumerate(zip(arrays, theirs[name], strict=True)):
            if rtol:
                wide = np.asarray(a, np.float64), np.asarray(b, np.float64)
                np.testing.assert_allclose(*wide, rtol, 1e-30, err_msg=f"{name}[{i}]")
            else:
                np.testing.assert_array_equal(
                    a.view(np.uint8) if a.ndim else a, b.view(np.uint8), err_msg=f"{name}[{i}]"
                )


def numpy_lists(
    kind: str,
    options: dict[str, Any],
    sizes: tuple[int, ...] = SIZES,
    dtypes: dict[str, Any] | None = None,
    seed: int = 1,
) -> Lists:
    """Random parameters and gradients with fresh states, by default float32.

    `dtypes` gives others by list: "params", "grads", "states" (uint8: codes), "ema",
    "low_precision_copies" (none unless given).
    """
    dtypes = dtypes or {}
    rng = np.random.default_rng(seed)
    params = [rng.normal(size=n) for n in sizes]
    arrays = {
        "params": [p.astype(dtypes.get("params", np.float32)) for p in params],
        "grads": [rng.normal(size=n).astype(dtypes.get("grads", np.float32)) for n in sizes],
    }
    for name, states in initial_states(kind, params, options).items():
        dtype = np.dtype(dtypes.get("ema" if name == "ema" else "states", np.float32))
        if dtype == np.uint8 and name not in CODES:
            dtype = np.dtype(np.float32)  # a state that has no codes
        if dtype == np.uint8:
            pairs = [quantized_zeros(p.shape) for p in params]
            arrays[name], arrays[f"{name}.scales"] = (list(a) for a in zip(*pairs, strict=True))
        else:
            arrays[name] = [s.astype(dtype) for s in states]
    if "low_precision_copies" in dtypes:
        dtype = dtypes["low_precision_copies"]
        arrays["low_precision_copies"] = [np.full(n, np.nan, dtype) for n in sizes]
    return Lists(kind, arrays)


def new_grads(lists: Lists, t: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + t)
    return [rng.normal(size=g.shape).astype(g.dtype) for g in lists.arrays["grads"]]


def compare_steps(
    theirs: Lists,
    ours: Lists,
    convention: str = "torch",
    steps: int = 3,
    rtol: float = 0.0,
    **options: Any,
) -> None:
    for t in range(1, steps + 1):
        grads = new_grads(theirs, t)
        for lists in (theirs, ours):
            lists.set_grads(grads)
            lists.step(step_number(convention, t), convention, **options)
        assert_same(ours.values(), theirs.values(), rtol)
