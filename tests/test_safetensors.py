"""Weights in safetensors files: round trips, and files that are not what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn.layers import BatchNormalization, Dense, Input
from fusednn.models import Sequential, clone_model
from fusednn.saving.safetensors_file import read_arrays, write_arrays

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7, 97)], ids=str)
def test_arrays(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    write_arrays(tmp_path / "a.safetensors", {"a/b": values, "c": np.arange(3, dtype=dtype)})
    again = read_arrays(tmp_path / "a.safetensors")
    assert list(again) == ["a/b", "c"]
    assert again["a/b"].dtype == dtype
    np.testing.assert_array_equal(again["a/b"], values)
    assert again["a/b"].shape == shape


def model() -> Sequential:
    return Sequential([Input((4,)), Dense(3, name="d"), BatchNormalization(name="n")], name="m")


def test_a_model_made_once_more(tmp_path: Path) -> None:
    """Automatic names count on in a process; the order of the layers of a class is the same."""

    def made() -> Sequential:
        inner = Sequential([Dense(3), BatchNormalization(), Dense(3)])
        return Sequential([Input((4,)), *[Dense(3) for _ in range(11)], inner, Dense(3, name="d")])

    ours, other = made(), made()
    assert {v.path for v in ours.weights} != {v.path for v in other.weights}
    for i, weight in enumerate(ours.weights):
        weight.assign(np.full(weight.shape, i))
    ours.save_weights(tmp_path / "w.safetensors")
    other.load_weights(tmp_path / "w.safetensors")
    for a, b in zip(ours.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_that_were_given_have_to_agree(tmp_path: Path) -> None:
    def named(*names: str) -> Sequential:
        return Sequential([Input((4,)), *[Dense(4, name=name) for name in names]])

    named("part_0", "part_1").save_weights(tmp_path / "w.safetensors")
    for names in [("part_1", "part_2"), ("dense", "part_0"), ("part_0",)]:
        with pytest.raises(ValueError, match="Only one of the two has"):
            named(*names).load_weights(tmp_path / "w.safetensors")


def test_models(tmp_path: Path) -> None:
    ours = model()
    ours.save_weights(tmp_path / "w.safetensors")
    other = clone_model(ours)
    other.load_weights(tmp_path / "w.safetensors")
    for a, b in zip(ours.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    smaller = Sequential([Input((4,)), Dense(3, name="d")])
    before = smaller.get_weights()
    with pytest.raises(ValueError, match="Only one of the two has n/beta"):
        smaller.load_weights(tmp_path / "w.safetensors")
    wider = Sequential([Input((5,)), Dense(3, name="d"), BatchNormalization(name="n")])
    with pytest.raises(ValueError, match=r"shape \(5, 3\) for 'd/kernel'"):
        wider.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(before[0], smaller.get_weights()[0])


def spoilt(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def spoil(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)  # of a file without a checksum
        changed = change(header)
        text = json.dumps(header if changed is None else changed).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    return spoil


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda d: b"", "header is longer than the file"),
    "cut": (lambda d: spoilt(lambda h: None)(d)[:-4], "the bytes of .* do not make an array"),
    "checksum": (lambda d: d[:-4] + b"else", "its checksum is that of another file"),
    "long header": (lambda d: b"\xff" * 7 + b"\x00" + d[8:], "header is longer than the file"),
    "no JSON": (lambda d: d[:8] + b"[" * (len(d) - 8), "is no safetensors file"),
    "a list": (spoilt(lambda h: []), "its header is no dictionary"),
    "no place": (spoilt(lambda h: h["d/bias"].update(data_offsets=None)), "cannot be read"),
    "dtype": (spoilt(lambda h: h["d/bias"].update(dtype="OBJ")), "cannot be read"),
    "shape": (spoilt(lambda h: h["d/bias"].update(shape=[10**12])), "do not make an array"),
    "negative": (spoilt(lambda h: h["d/bias"].update(shape=[-3])), "do not make an array"),
    "outside": (spoilt(lambda h: h["d/bias"].update(data_offsets=[0, 10**9])), "do not make"),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.safetensors"
    ours = model()
    ours.save_weights(path)
    spoil, message = BAD[name]
    path.write_bytes(spoil(path.read_bytes()))
    before = ours.get_weights()
    with pytest.raises(ValueError, match=message):
        ours.load_weights(path)
    for a, b in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
