"""`datasets.load_csv`: targets by name, categories, missing cells, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import datasets

HOUSES = """longitude,rooms,near,value
-122.2,880,BAY,452600.0
-122.3,,INLAND,358500.0
-121.9,1467,BAY,352100.0
-120.5,NA,ISLAND,341300.0
-118.4,235,INLAND,342200.0
"""


def load(path: Path, text: str = HOUSES, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Read a text without splitting it, and return the rows in the order of their targets."""
    path.write_text(text)
    (x, y), (x_test, y_test) = datasets.load_csv(
        path, **{"target": "value", "test_split": 0.0} | options
    )
    assert len(x_test) == len(y_test) == 0
    order = np.argsort(-y, kind="stable")
    return x[order], y[order]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


def test_categories_and_medians(path: Path) -> None:
    x, y = load(path, one_hot=["near"], missing="median")
    expected = [
        [-122.2, 880, 1, 0, 0],
        [-122.3, 880, 0, 1, 0],
        [-121.9, 1467, 1, 0, 0],
        [-118.4, 235, 0, 1, 0],
        [-120.5, 880, 0, 0, 1],
    ]
    np.testing.assert_array_equal(x, np.float32(expected))
    np.testing.assert_array_equal(y, np.float32([452600, 358500, 352100, 342200, 341300]))
    assert x.dtype == y.dtype == np.float32


def test_rows_with_gaps_may_be_left_out(path: Path) -> None:
    x, y = load(path, one_hot=["near"], missing="drop")
    np.testing.assert_array_equal(x[:, 0], np.float32([-122.2, -121.9, -118.4]))
    assert x.shape == (3, 4)  # no row on an island is left
    assert len(y) == 3


def test_medians_are_those_of_the_training_set(path: Path) -> None:
    rows = [f"{i if i % 3 else ''};{i}.5" for i in range(100)]
    path.write_text("\n".join(["a;value", *rows]))
    (x_train, y_train), (x_test, y_test) = datasets.load_csv(path, "value", missing="median")
    known = [y - 0.5 for y in y_train if int(y) % 3]
    for x, y in ((x_train, y_train), (x_test, y_test)):
        filled = x[y.astype(int) % 3 == 0, 0]
        assert len(filled)
        np.testing.assert_array_equal(filled, np.float32(np.median(known)))


def test_split_and_types(path: Path) -> None:
    text = "a\tvalue\n" + "".join(f"{i}.5\t{i}\n" for i in range(10))
    path.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    (x_train, y_train), (x_test, y_test) = datasets.load_csv(path, "value", test_split=0.3)
    assert (len(x_train), len(x_test)) == (7, 3)
    assert y_train.dtype == np.int64
    np.testing.assert_array_equal(x_train[:, 0], y_train + np.float32(0.5))
    assert sorted([*y_train, *y_test]) == list(range(10))
    again = datasets.load_csv(path, "value", test_split=0.3)
    np.testing.assert_array_equal(again[0][1], y_train)
    other = datasets.load_csv(path, "value", test_split=0.3, seed=1)
    assert other[0][1].tolist() != y_train.tolist()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (HOUSES, {}, r"line 3, column 2 \('rooms'\): the cell is missing.*='drop' or missing='med"),
        (HOUSES, {"missing": "median"}, r"line 2, column 3 \('near'\): must be a number; columns"),
        (HOUSES, {"target": "price"}, r"must name the column once\. Received: 'price'.*'value'$"),
        (HOUSES, {"one_hot": ["far"]}, r"must name the column once\. Received: 'far'"),
        (HOUSES, {"one_hot": ["value"]}, r"the target cannot be among `one_hot`"),
        (HOUSES, {"missing": "zero"}, r"`missing` must be 'raise', 'drop' or 'median'.*'zero'"),
        ("a,a,value\n1,2,3\n", {"target": "a"}, "must name the column once"),
        ("", {}, r"a\.csv: the file is empty"),
        ("a,value\n", {}, r"a\.csv: holds no rows$"),
        ("a,value\n,1\n", {"missing": "drop"}, "holds no rows without gaps"),
        ("value\n1\n", {}, "must have a column beside the target"),
        ("a,value\n1,2,3\n", {}, r"line 2: must have 2 cells as the header has\. Received: 3"),
        ("a,value\n1e60,2\n", {}, r"line 2, column 1 \('a'\): must be finite in float32.*'1e60'"),
        ("a,value\ninf,2\n", {}, r"line 2, column 1 \('a'\): must be finite in float32.*'inf'"),
        (
            "a,value\n1,?\n",
            {"missing": "median"},
            r"column 2 \('value'\): the cell is missing.*drop",
        ),
        ("a,value\n1,x\n", {}, r"column 2 \('value'\): must be a number"),
        ("a,b,value\n1,,2\n", {"missing": "median"}, "no median where all its cells are missing"),
        ("a,value\n1,2\n", {"test_split": 1}, r"`test_split` must be in \[0, 1\)"),
        (HOUSES, {"missing": "drop", "one_hot": ["near"], "seed": -1}, "`seed` must be at least 0"),
    ],
)
def test_refused(path: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(path, text, **options)


def test_refused_types_and_bytes(path: Path) -> None:
    with pytest.raises(TypeError, match="`one_hot` must be a list of names"):
        load(path, one_hot="near")
    path.write_bytes(b"a,value\n\xff,1\n")
    with pytest.raises(ValueError, match=r"a\.csv: must be UTF-8 text"):
        datasets.load_csv(path, "value")
    with pytest.raises(FileNotFoundError):
        datasets.load_csv(path.with_name("b.csv"), "value")
