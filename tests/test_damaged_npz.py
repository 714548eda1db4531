"""Files of NumPy's arrays with damage at any place, cut off anywhere, or made to do harm."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import callbacks, datasets
from fusednn.data import Dataset
from fusednn.datasets.npz_file import npz_arrays
from fusednn.layers import BatchNormalization, Dense, Input
from fusednn.models import Sequential

RNG = np.random.default_rng(0)
ARRAYS = {
    "x": RNG.standard_normal((40, 6)).astype(np.float32),
    "y": RNG.integers(0, 3, 40),
}
Arrays = dict[str, np.ndarray]


def loaded(path: Path) -> Arrays:
    data = datasets.load(path)
    return {"x": data.x_train, "y": data.y_train}


def named(path: Path) -> Arrays:
    return dict(zip(ARRAYS, npz_arrays(path, list(ARRAYS)), strict=True))


def mapped(path: Path) -> Arrays:
    return dict(zip(ARRAYS, map(np.stack, zip(*Dataset.from_npz(path), strict=True)), strict=True))


#: Whether what is read is compared with the checksums of the archive; maps are read where used.
READERS: dict[str, tuple[Callable[[Path], Arrays], bool]] = {
    "load": (loaded, True),
    "arrays": (named, True),
    "maps": (mapped, False),
}


def archive(compressed: bool = False) -> bytes:
    memory = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(memory, **ARRAYS)
    return memory.getvalue()


def spoilt(data: bytes, places: int) -> Iterator[bytes]:
    for place in np.unique(np.linspace(0, len(data) - 1, places).astype(int)):
        for noise in (bytes([data[place] ^ 0xFF]), bytes([data[place] ^ 1]), RNG.bytes(8)):
            end = min(place + len(noise), len(data))
            yield data[:place] + noise[: end - place] + data[end:]


@pytest.mark.parametrize("name", READERS)
def test_cut_off_anywhere(tmp_path: Path, name: str) -> None:
    data, path = archive(), tmp_path / "cut.npz"
    for length in np.linspace(0, len(data) - 1, 60).astype(int):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.npz"):
            READERS[name][0](path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", READERS)
def test_damage_anywhere(tmp_path: Path, name: str, compressed: bool) -> None:
    read, checked = READERS[name]
    if compressed and not checked:
        pytest.skip("what is compressed is not mapped")
    path = tmp_path / "bad.npz"
    failures = 0
    for bad in spoilt(archive(compressed), 300):
        path.write_bytes(bad)
        failure: ValueError | None = None
        try:
            found = read(path)
        except ValueError as error:
            failure = error
        if failure is not None:
            failures += 1
            assert "bad.npz" in str(failure)
            continue
        for key, array in found.items():
            if checked:
                np.testing.assert_array_equal(array, ARRAYS[key])
            assert array.size == ARRAYS[key].size
    assert failures > (500 if checked else 60)


def member(header: str, data: bytes = bytes(64)) -> bytes:
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def described(shape: str, dtype: str = "'<f4'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"


HOSTILE = {
    "a large shape": member(described("(1000000000000, 6)")),
    "a shape past 64 bits": member(described("(9223372036854775807, 9223372036854775807)")),
    "a negative shape": member(described("(-1, 6)")),
    "a shape of floats": member(described("(4.0, 4)")),
    "Python objects": member(described("(4,)", "'|O'")),
    "an expression": member(described("(__import__('os').getpid(), 4)")),
    "no dictionary": member("[1, 2"),
    "deep brackets": member("(" * 110),
    "an unknown type": member(described("(4,)", "'<q9'")),
    "a version of its own": b"\x93NUMPY\x09\x00" + bytes(64),
    "no array": b"spam and eggs" * 10,
    "nothing": b"",
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", READERS)
def test_hostile_arrays(tmp_path: Path, name: str, case: str) -> None:
    path = tmp_path / "hostile.npz"
    good = io.BytesIO()
    np.save(good, ARRAYS["y"])
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", HOSTILE[case])
        file.writestr("y.npy", good.getvalue())
    with pytest.raises(ValueError, match=r"hostile\.npz"):
        READERS[name][0](path)


@pytest.mark.parametrize("name", READERS)
def test_an_archive_that_says_it_is_large(tmp_path: Path, name: str) -> None:
    """A megabyte that would be a gigabyte: told from its directory, before any of it is read."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w", force_zip64=True) as x:
            x.write(member(described("(268435456,)"), b""))
            for _ in range(64):
                x.write(bytes(2**24))
        file.writestr("y.npy", member(described("(16,)")))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bomb\.npz"):
            READERS[name][0](path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


# ---- backups


def training(folder: Path, stop: bool = False) -> Sequential:
    model = Sequential([Input((6,)), Dense(5), BatchNormalization(), Dense(3)])
    model.compile("adam", "sparse_categorical_crossentropy")
    end = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: [].pop() if epoch == 1 else 0)
    backup = callbacks.BackupAndRestore(folder)
    model.fit(**ARRAYS, epochs=2, verbose=0, callbacks=[backup, *([end] if stop else [])])
    return model


def test_backups(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        training(tmp_path, stop=True)
    path = tmp_path / "training.npz"
    data = path.read_bytes()
    model = Sequential([Input((6,)), Dense(5), BatchNormalization(), Dense(3)])
    model.compile("adam", "sparse_categorical_crossentropy")
    before = model.get_weights()
    cut = [data[:length] for length in np.linspace(0, len(data) - 1, 40).astype(int)]
    callback = callbacks.BackupAndRestore(tmp_path)
    callback.set_model(model)
    failures = 0
    for bad in (*cut, *spoilt(data, 150)):
        path.write_bytes(bad)
        failure: ValueError | None = None
        try:
            callback.on_train_begin()
        except ValueError as error:
            failure = error
        if failure is None:
            arrays: Any = callback._stored.arrays
            assert len([name for name in arrays if name.startswith("weight/")]) == len(before)
            continue
        failures += 1
        assert str(path) in str(failure)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)
    assert failures > 300
