"""Files with damage at any place, cut off anywhere, or left by a process that was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusednn import backend
from fusednn.models import Sequential, load_model
from fusednn.saving.arrays_in_hdf5 import new_file, write_array
from trained_model import X, trained

h5py = pytest.importorskip("h5py", reason="Keras' files are HDF5 files")

ENDINGS = [".keras", ".h5", ".weights.h5", ".safetensors"]


@pytest.fixture(scope="module")
def model() -> Sequential:
    backend.clear_session()  # as in a process of its own: files of weights have the layers' names
    return trained()


def written(model: Sequential, path: Path) -> bytes:
    whole = path.name in ("m.keras", "m.h5")
    (model.save if whole else model.save_weights)(path)
    return path.read_bytes()


def read(model: Sequential, path: Path) -> Sequential:
    """Read a model, or weights into it; a failure must name the file and change nothing."""
    before = model.get_weights()
    failure: ValueError | None = None
    try:
        if path.name.endswith((".weights.h5", ".safetensors")):
            model.load_weights(path)
            return model
        return load_model(path)
    except ValueError as error:
        failure = error
    assert str(path) in str(failure)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    raise failure


@pytest.mark.parametrize("ending", ENDINGS)
def test_cut_off_anywhere(tmp_path: Path, model: Sequential, ending: str) -> None:
    data = written(model, tmp_path / f"m{ending}")
    path = tmp_path / f"cut{ending}"
    for length in np.linspace(0, len(data) - 1, 25).astype(int):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="cut"):
            read(model, path)


def spoilt(data: bytes, places: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for place in np.unique(np.linspace(0, len(data) - 1, places).astype(int)):
        for noise in (bytes([data[place] ^ 0xFF]), bytes([data[place] ^ 1]), rng.bytes(8)):
            end = min(place + len(noise), len(data))
            yield data[:place] + noise[: end - place] + data[end:]


@pytest.mark.parametrize("ending", ENDINGS)
def test_damage_anywhere(tmp_path: Path, model: Sequential, ending: str) -> None:
    data = written(model, tmp_path / f"m{ending}")
    weights, expected = model.get_weights(), model.predict(X, verbose=0)
    path = tmp_path / f"bad{ending}"
    failures = 0
    state = [v.numpy() for v in model.optimizer.variables]
    for bad in spoilt(data, 50):
        path.write_bytes(bad)
        try:
            found = read(model, path)
        except ValueError:
            failures += 1
        else:
            assert found.count_params() == model.count_params()
            np.testing.assert_array_equal(found.predict(X, verbose=0), expected)
            for a, b in zip(state, found.optimizer.variables, strict=True):
                np.testing.assert_array_equal(a, b.numpy())
        model.set_weights(weights)
    assert failures > {".weights.h5": 60}.get(ending, 120)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5"])
def test_damaged_arrays_are_noticed(tmp_path: Path, model: Sequential, ending: str) -> None:
    """By their checksums, which whoever reads with h5py, as Keras does, compares."""
    path = tmp_path / f"m{ending}"
    data = written(model, path)
    kernel = model.get_weights()[0]
    place = data.index(kernel.tobytes()) + kernel.nbytes // 2
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(ValueError, match=r"data of 'first/kernel' cannot be read"):
        read(model, path)
    name = "first/first/kernel" if ending == ".h5" else "layers/dense/vars/0"
    with h5py.File(path) as file, pytest.raises(OSError, match=r"(?i)checksum|filter|read"):
        file[f"model_weights/{name}" if ending == ".h5" else name][()]


def test_damaged_descriptions_are_noticed(tmp_path: Path, model: Sequential) -> None:
    path = tmp_path / "m.h5"
    data = written(model, path)
    for text, other in (
        (b'"momentum": 0.9', b'"momentum": 0.8'),
        (b'"beta_1": 0.9', b'"beta_1": 0.7'),
    ):
        assert text in data
        path.write_bytes(data.replace(text, other))
        with pytest.raises(ValueError, match="checksum of model_config and training_config"):
            load_model(path)


def test_large_arrays_are_cut(tmp_path: Path) -> None:
    """A checksum is of some megabytes, so that reading needs little memory besides."""
    large = np.arange(5 * 2**20, dtype=np.float32).reshape(5, -1)
    with new_file(tmp_path / "a.h5") as file:
        for name, array in (
            ("a", large),
            ("n", np.float32(3)),
            ("e", np.empty((0, 3), np.float32)),
        ):
            write_array(file, name, np.asarray(array))
    with h5py.File(tmp_path / "a.h5") as file:
        chunk = file["a"].chunks
        assert np.prod(chunk) * 4 <= 16 * 2**20 < 4 * large.size
        np.testing.assert_array_equal(file["a"][()], large)
        assert (file["n"][()], file["e"].shape) == (3, (0, 3))


def test_heaps_that_do_not_add_up(tmp_path: Path, model: Sequential) -> None:
    """HDF5 never comes back from some of these."""
    path = tmp_path / "m.h5"
    data = written(model, path)
    heap = data.index(b"GCOL")
    for place, changed in [
        (heap + 8, b"\xff"),  # the size of the heap
        (heap + 8, bytes(8)),
        (heap + 16, bytes(16)),  # an object of number 0 and size 0
        (heap + 24, b"\xff" * 8),  # the size of an object
    ]:
        path.write_bytes(data[:place] + changed + data[place + len(changed) :])
        with pytest.raises(ValueError, match=r"m\.h5 cannot be read: .* damaged: the heap"):
            load_model(path)


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from trained_model import trained
model = trained()
path = {path!r}
(model.save if path.endswith((".keras", "m.h5")) else model.save_weights)(path)
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
model.set_weights([0 * w for w in model.get_weights()])
(model.save if path.endswith((".keras", "m.h5")) else model.save_weights)(path)
"""


def test_a_process_that_was_killed_while_it_saved(tmp_path: Path, model: Sequential) -> None:
    for ending in (".keras", ".safetensors"):
        path = tmp_path / f"m{ending}"
        script = SCRIPT.format(tests=str(Path(__file__).parent), path=str(path))
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        found = read(model, path)
        for a, b in zip(found.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert any(a.any() for a in found.get_weights())
