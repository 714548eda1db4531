"""Rows gathered in any order: values of every dtype and size, and refusals."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fusednn import _core

DTYPES = ["float32", "float64", "uint8", "int64", "bool", ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(97,), (97, 7), (7, 5, 3), (1, 4), (97, 0), (97, 3000)])
@pytest.mark.parametrize("count", [0, 1, 7, 97])
def test_values(count: int, shape: tuple[int, ...], dtype: Any, threads: int) -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 100, shape).astype(dtype)
    rows = rng.integers(0, len(source), count)
    whole = np.ones((count + 1, *shape[1:]), dtype)
    _core.take_rows(source, rows, whole[:count])
    np.testing.assert_array_equal(whole[:count], source[rows])
    assert (whole[count] == 1).all()


SOURCE, ROWS, OUT = np.ones((7, 5)), np.arange(3), np.zeros((3, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SOURCE.T, ROWS, OUT), "`source` must be an array of NumPy in C order"),
        ((SOURCE[0, 0], ROWS, OUT), "`source` must be an array of NumPy in C order"),
        ((SOURCE.astype(object), ROWS, OUT.astype(object)), "`source` must be an array of numbers"),
        ((SOURCE, [0, 1], OUT), "`rows` must be an array of NumPy in C order"),
        ((SOURCE, ROWS.astype("int32"), OUT), "`rows` must be a vector of int64"),
        ((SOURCE, ROWS.astype("uint64"), OUT), "`rows` must be a vector of int64"),
        ((SOURCE, ROWS[:, None].copy(), OUT), "`rows` must be a vector of int64"),
        ((SOURCE, np.array([0, 7, 1]), OUT), "`rows` must be rows of `source`"),
        ((SOURCE, np.array([0, 1, -1]), OUT), "`rows` must be rows of `source`"),
        ((SOURCE, ROWS, OUT[:2]), "`out` must be writable"),
        ((SOURCE, ROWS, np.zeros((3, 4))), "`out` must be writable"),
        ((SOURCE, ROWS, np.zeros((3, 5, 1))), "`out` must be writable"),
        ((SOURCE, ROWS, OUT.astype("float32")), "`out` must be writable"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.take_rows(*arguments)
    assert not OUT.any()


def test_an_output_that_is_read_only() -> None:
    out = np.zeros((3, 5))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="`out` must be writable"):
        _core.take_rows(SOURCE, ROWS, out)
