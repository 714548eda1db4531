"""Readers of data files: what they return, and how they refuse what is malformed."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import datasets
from fusednn.datasets import LabeledData, digits, scikit_learn_files


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


class TestNpz:
    @pytest.mark.parametrize("keys", [("x", "y"), ("X", "y"), ("x_train", "y_train")])
    def test_without_a_test_set(self, tmp_path: Path, keys: tuple[str, str]) -> None:
        x = np.arange(8.0).reshape(4, 2)
        np.savez(tmp_path / "a.npz", **{keys[0]: x, keys[1]: [7, 3, 7, 3]}, other=[1])
        data = datasets.load(tmp_path / "a.npz")
        np.testing.assert_array_equal(data.x_train, x.astype(np.float32))
        assert data.x_train.dtype == np.float32
        np.testing.assert_array_equal(data.y_train, [1, 0, 1, 0])
        assert data.classes == ("3", "7")
        assert len(data.x_test) == len(data.y_test) == 0
        assert data.pixel_max is None

    def test_with_a_test_set_of_strings(self, tmp_path: Path) -> None:
        np.savez_compressed(
            tmp_path / "a.npz",
            x_train=np.zeros((3, 2, 2), np.uint8),
            y_train=np.array([["b"], ["a"], ["c"]]),
            x_test=np.ones((2, 2, 2), np.uint8),
            y_test=np.array(["c", "a"]),
        )
        data = datasets.load(str(tmp_path / "a.npz"))
        np.testing.assert_array_equal(data.y_train, [1, 0, 2])
        np.testing.assert_array_equal(data.y_test, [2, 0])
        assert data.x_test.shape == (2, 2, 2)
        assert data.pixel_max == 255.0

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.zeros((2, 1))}, r"must hold the arrays x and y, .* Received: x$"),
            ({}, r"Received: no array"),
            (
                {"x": np.zeros((3, 1)), "y": [0, 1]},
                r"x and y must have the same .* Received: 3 and 2",
            ),
            ({"x": np.zeros(2), "y": [0, 1]}, r"x must have shape .* Received: shape=\(2,\)"),
            ({"x": np.zeros((0, 2)), "y": []}, r"not be empty. Received: shape=\(0, 2\)"),
            (
                {"x": np.array([["a"], ["b"]]), "y": [0, 1]},
                r"x must hold numbers. Received: dtype=<U1",
            ),
            (
                {"x": np.array([[0.0], [np.nan]]), "y": [0, 1]},
                r"x must be finite.*nan at index \(1, 0\)",
            ),
            (
                {"x": np.array([[0.0], [1e39]]), "y": [0, 1]},
                r"x must be finite.*1e\+39 at index \(1, 0\)",
            ),
            (
                {"x": np.zeros((2, 1)), "y": [5, 5]},
                r"y must hold two classes or more. Received: only 5",
            ),
            ({"x": np.zeros((2, 1)), "y": [0, 1.5]}, r"y must hold class labels.*1.5 at index 1"),
            (
                {"x": np.zeros((2, 1)), "y": [0, np.nan]},
                r"y must hold class labels.*nan at index 1",
            ),
            (
                {"x": np.zeros((2, 1)), "y": [0, 1e30]},
                r"y must hold class labels.*1e\+30 at index 1",
            ),
            ({"x": np.zeros((2, 1)), "y": [0, 1j]}, r"y must hold integers or strings.*complex128"),
            ({"x": np.zeros((2, 1)), "y": np.eye(2)}, r"y must hold one label.*shape=\(2, 2\)"),
            (
                {"x": np.zeros((2, 1)), "y": np.array([{}, 1])},
                r"y: must hold numbers.*Python objects",
            ),
        ],
    )
    def test_unusable_arrays(self, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(ValueError, match=message) as caught:
            datasets.load(tmp_path / "bad.npz")
        assert str(caught.value).startswith(str(tmp_path / "bad.npz"))

    @pytest.mark.parametrize(
        ("test", "message"),
        [
            (
                (np.zeros((1, 3)), [0]),
                r"x_test must have examples of the shape .*\(2,\). Received: \(3,\)",
            ),
            (
                (np.zeros((2, 2)), [1, 4]),
                r"y_test must hold labels that occur in y_train.*4 at index 1",
            ),
            ((np.zeros((1, 2)), ["a"]), r"y_test must hold labels of the same kind .*dtype=<U1"),
        ],
    )
    def test_a_test_set_that_does_not_fit(self, tmp_path: Path, test: Any, message: str) -> None:
        path = tmp_path / "bad.npz"
        np.savez(path, x_train=np.zeros((3, 2)), y_train=[0, 1, 2], x_test=test[0], y_test=test[1])
        with pytest.raises(ValueError, match=message):
            datasets.load(path)

    def test_damaged_archives(self, tmp_path: Path) -> None:
        whole = tmp_path / "whole.npz"
        np.savez_compressed(
            whole, x=np.random.default_rng(0).normal(size=(50, 9)), y=np.arange(50) % 2
        )
        content = whole.read_bytes()
        bad = tmp_path / "bad.npz"
        for size in (0, 3, 100, len(content) // 2, len(content) - 30):
            bad.write_bytes(content[:size])
            with pytest.raises(ValueError, match=r"bad\.npz: not a .* or truncated"):
                datasets.load(bad)
        for place in range(60, len(content) - 250, 97):
            flipped = bytearray(content)
            flipped[place] ^= 0xFF
            bad.write_bytes(flipped)
            with pytest.raises(
                ValueError, match=r"bad\.npz: (the archive is damaged|x: not an array)"
            ):
                datasets.load(bad)


class TestCsv:
    @pytest.mark.parametrize(
        ("text", "label", "header", "classes", "y"),
        [
            ("a,b,kind\n1,2,cat\n3,4,dog\n", None, None, ("cat", "dog"), [0, 1]),
            ("1,2,cat\n3,4,dog\n", None, None, ("cat", "dog"), [0, 1]),
            ("1;2;10\n\n3;4;9\n", None, None, ("9", "10"), [1, 0]),
            ("1\t2\t1.0\n3\t4\t-1\n", None, False, ("-1", "1"), [1, 0]),
            ("kind,a,b\r\n x ,1,2\r\ny,3,4\r\n", "kind", None, ("x", "y"), [0, 1]),
            ("5,1,2\n6,3,4\n", 0, None, ("5", "6"), [0, 1]),
            ("1,5,2\n3,6,4", -2, None, ("5", "6"), [0, 1]),
            ("0,1,2\n1,2,5\n3,4,6\n", None, True, ("5", "6"), [0, 1]),
            ('"a, b",c,kind\n1,2,"x, y"\n3,4,z\n', None, None, ("x, y", "z"), [0, 1]),
            ("\ufeffa,b,kind\n1,2,é\n3,4,z\n", None, None, ("z", "é"), [1, 0]),
            (
                "1,2,99999999999999999999\n3,4,a\n",
                None,
                None,
                ("99999999999999999999", "a"),
                [0, 1],
            ),
        ],
    )
    @pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
    def test_forms(
        self,
        tmp_path: Path,
        text: str,
        label: Any,
        header: bool | None,
        classes: tuple[str, ...],
        y: list[int],
        compress: bool,
    ) -> None:
        content = text.encode()
        path = tmp_path / ("a.csv.gz" if compress else "a.csv")
        path.write_bytes(gzip.compress(content) if compress else content)
        data = datasets.load(path, label=label, header=header)
        np.testing.assert_array_equal(data.x_train, np.float32([[1, 2], [3, 4]]))
        assert data.x_train.dtype == np.float32
        np.testing.assert_array_equal(data.y_train, y)
        assert data.classes == classes

    @pytest.mark.parametrize(
        ("text", "options", "message"),
        [
            ("", {}, r"the file is empty"),
            ("\n\n", {}, r"the file is empty"),
            ("a,b,kind\n", {}, r"holds a header but no rows"),
            ("1\n2\n", {}, r"must have two columns or more.*Received: 1"),
            ("1,2,a\n1,2\n", {}, r"line 2: must have 3 cells as the first line has. Received: 2"),
            ("1,2,a\n\n1,2,b,c\n", {}, r"line 3: must have 3 cells .* Received: 4"),
            ("w,h,k\n1,2,a\n1,two,b\n", {}, r"line 3, column 2 \('h'\): must be a number.*'two'"),
            ("1,2,a\n1,,b\n", {}, r"line 2, column 2: must be a number. Received: ''"),
            ("1,x,a\n1,2,b\n", {}, r"line 1, column 2: must be a number. Received: 'x'"),
            ("a,1,x\nb,1,2\n", {"label": 0}, r"line 1, column 3: must be a number. Received: 'x'"),
            (
                "1,2,a\n\n1,nan,b\n",
                {},
                r"line 3, column 2: must be finite in float32. Received: nan",
            ),
            (
                "a,1,2\nb,1,1e99\n",
                {"label": 0},
                r"line 2, column 3: must be finite .*Received: inf",
            ),
            ("1,2,a\n1,2, \n", {}, r"line 2, column 3: the label is empty"),
            ("1,2,a\n3,4,a\n", {}, r"labels must hold two classes or more. Received: only a"),
            ("1,2,0.5\n3,4,1\n", {}, r"labels must hold class labels.*0\.5 at index 0"),
            (
                "a,b,c\n1,2,3\n",
                {"label": "d"},
                r"name the label's column once. Received: 'd'.*'a', 'b'",
            ),
            ("a,a,c\n1,2,3\n", {"label": "a"}, r"name the label's column once. Received: 'a'"),
            ("1,2,3\n", {"label": "a", "header": False}, r"without a header .* must be a number"),
            ("1,2,3\n", {"label": 3}, r"the label's position must be in \[-3, 3\). Received: 3"),
            ("1,2,3\n", {"label": -4}, r"the label's position must be in \[-3, 3\). Received: -4"),
        ],
    )
    def test_malformed(
        self, tmp_path: Path, text: str, options: dict[str, Any], message: str
    ) -> None:
        path = write_text(tmp_path / "bad.csv", text)
        with pytest.raises(ValueError, match=message) as caught:
            datasets.load(path, **options)
        assert str(caught.value).startswith(f"{path}: ")

    def test_not_text(self, tmp_path: Path) -> None:
        path = write_text(tmp_path / "bad.csv", "1,2,é\n3,4,a\n", "latin-1")
        with pytest.raises(ValueError, match=r"bad\.csv: must be UTF-8 text"):
            datasets.load(path)

    def test_a_field_without_end(self, tmp_path: Path) -> None:
        path = write_text(tmp_path / "bad.csv", '1,2,"' + "a" * 200_000 + "\n")
        with pytest.raises(ValueError, match=r"bad\.csv: not a table of comma-separated values"):
            datasets.load(path)


class TestLoad:
    @pytest.mark.parametrize("name", ["a.npz", "a.csv", "images-idx3-ubyte"])
    def test_missing_file(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FileNotFoundError):
            datasets.load(tmp_path / name)

    @pytest.mark.parametrize("content", [b"", b"hello", b"\0\0\x08\0"])
    def test_unknown_kind(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "images"
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"images: must be a \.npz or \.csv file, or MNIST-style"
        ):
            datasets.load(path)

    @pytest.mark.parametrize("option", [{"label": "a"}, {"label": 0}, {"header": False}])
    def test_options_of_csv(self, tmp_path: Path, option: dict[str, Any]) -> None:
        np.savez(tmp_path / "a.npz", x=np.zeros((2, 1)), y=[0, 1])
        with pytest.raises(ValueError, match=r"`label` and `header` are for \.csv files only"):
            datasets.load(tmp_path / "a.npz", **option)


class TestSplit:
    def test_shares(self) -> None:
        y = np.repeat([0, 1, 2, 3], [50, 10, 2, 1])
        train, test = datasets.stratified_split(y, 0.2, seed=3)
        assert np.bincount(y[test], minlength=4).tolist() == [10, 2, 1, 0]
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(y)))

    def test_large_fraction_leaves_a_training_example_of_each_class(self) -> None:
        train, _ = datasets.stratified_split(np.repeat([0, 1], 5), 0.99)
        assert np.bincount(np.repeat([0, 1], 5)[train]).tolist() == [1, 1]

    def test_seed_decides(self) -> None:
        y = np.zeros(100, int)
        first, again, other = (datasets.stratified_split(y, 0.2, seed)[1] for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
    def test_fraction_outside(self, fraction: float) -> None:
        with pytest.raises(ValueError, match=r"`test_fraction` must be in \(0, 1\). Received"):
            datasets.stratified_split(np.zeros(4), fraction)

    def test_nothing_to_split(self) -> None:
        data = LabeledData.from_arrays("mine", (np.zeros((2, 1)), np.array([0, 1])))
        with pytest.raises(ValueError, match=r"mine: no class has two examples"):
            data.with_test_set()

    def test_own_test_set_is_kept(self) -> None:
        x, y = np.zeros((4, 1)), np.array([0, 1, 0, 1])
        data = LabeledData.from_arrays("mine", (x, y), (x[:2], y[:2]))
        assert data.with_test_set() is data


class TestScaling:
    def test_standardised_by_the_training_set(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal([3.0, -1e4, 5.0], [2.0, 1e-1, 0.0], (200, 3)).astype(np.float32)
        y = np.arange(200) % 2
        data = LabeledData.from_arrays("mine", (x[:150], y[:150]), (x[150:] + 1, y[150:]))
        scaled, description = datasets.scale_features(data)
        mean, std = x[:150].mean(0, np.float64), x[:150].std(0, np.float64)
        for before, after in ((x[:150], scaled.x_train), (x[150:] + 1, scaled.x_test)):
            assert after.dtype == np.float32
            np.testing.assert_allclose(after[:, :2], (before - mean)[:, :2] / std[:2], rtol=1e-5)
            assert not after[:, 2].any()
        assert "standardised by the training set" in description
        np.testing.assert_array_equal(data.x_train, x[:150])

    def test_pixels(self) -> None:
        x = np.array([[0.0, 16.0], [8.0, 4.0]])
        data = LabeledData.from_arrays("mine", (x, np.array([0, 1])), pixel_max=16.0)
        scaled, description = datasets.scale_features(data)
        np.testing.assert_array_equal(scaled.x_train, np.float32([[0, 1], [0.5, 0.25]]))
        assert description == "pixels divided by 16"


class TestDigits:
    def test_equals_scikit_learn(self) -> None:
        sklearn = pytest.importorskip(
            "sklearn.datasets", reason="the digits come with scikit-learn"
        )
        x, y = sklearn.load_digits(return_X_y=True)
        data = digits.load()
        np.testing.assert_array_equal(data.x_train, x)
        np.testing.assert_array_equal(data.y_train, y)
        assert data.classes == tuple("0123456789")

    def test_split(self) -> None:
        pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
        (x_train, y_train), (x_test, y_test) = digits.load_data()
        assert x_train.shape == (len(y_train), 64)
        assert len(x_train) + len(x_test) == 1797
        assert x_train.dtype == x_test.dtype == np.float32
        assert x_train.min() == 0.0
        assert x_train.max() == 1.0
        share = np.bincount(y_test) / np.bincount(np.concatenate([y_train, y_test]))
        np.testing.assert_allclose(share, 0.2, atol=0.004)

    def test_scikit_learn_that_keeps_the_file_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn")
        expected = digits.load()
        monkeypatch.setattr(scikit_learn_files, "_FOLDER", ("moved",))
        moved = digits.load()
        np.testing.assert_array_equal(moved.x_train, expected.x_train)
        np.testing.assert_array_equal(moved.y_train, expected.y_train)

    def test_without_scikit_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scikit_learn_files, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match=r"scikit-learn.*pip install scikit-learn"):
            digits.load()


def test_import_loads_no_reader_library() -> None:
    """The readers' libraries load with the first file of their kind, not with the package."""
    for module in ("csv_file", "npz_file", "compressed_file"):
        names = vars(importlib.import_module(f"fusednn.datasets.{module}"))
        assert not {"csv", "zipfile", "gzip"} & names.keys()
