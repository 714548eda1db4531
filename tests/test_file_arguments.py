"""The arguments of Keras' functions that write and read files."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from fusednn import layers, models, saving
from fusednn.models import Sequential

pytest.importorskip("h5py", reason="Keras' files are HDF5 files")

ENDINGS = [".weights.h5", ".h5", ".safetensors", ".keras"]


def network(width: int, outputs: int = 2, fill: float | None = None) -> Sequential:
    model = Sequential(
        [
            layers.Input((3,)),
            layers.Dense(width, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(outputs, name="last"),
        ]
    )
    if fill is not None:
        model.set_weights([np.full(w.shape, fill, w.dtype) for w in model.get_weights()])
    return model


def write(model: Sequential, path: Path) -> None:
    if path.suffix == ".keras":
        model.save(filepath=path)
    else:
        model.save_weights(filepath=path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_layers_that_do_not_fit_are_skipped(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    write(network(4, outputs=3, fill=7.0), path)
    model = network(4, outputs=2, fill=1.0)
    with pytest.raises(ValueError, match=r"must hold an array of shape \(4, 2\) for '.*last"):
        model.load_weights(path)
    assert all((w == 1).all() for w in model.get_weights())
    with pytest.warns(
        UserWarning, match="does not fit all layers; these keep their weights: .*last"
    ):
        model.load_weights(filepath=path, skip_mismatch=True)
    assert [w.flat[0] for w in model.get_weights()] == [7] * 6 + [1, 1]


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_layers_that_the_file_lacks_are_skipped(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    write(network(4, fill=7.0), path)
    model = network(4, fill=1.0)
    model.add(layers.Dense(1, name="more"))
    before = model.layers[-1].get_weights()
    with pytest.raises(ValueError, match="must hold"):
        model.load_weights(path)
    with pytest.warns(UserWarning, match="does not fit all layers"):
        model.load_weights(path, skip_mismatch=True)
    assert [w.flat[0] for w in model.get_weights()[:8]] == [7] * 8
    np.testing.assert_array_equal(model.layers[-1].get_weights()[0], before[0])


def test_layers_are_found_by_name(tmp_path: Path) -> None:
    network(4, fill=7.0).save_weights(tmp_path / "w.h5")
    model = Sequential([layers.Input((3,)), layers.Dense(5, name="new")])
    for name, units in (("other", 3), ("wide", 4), ("last", 2)):
        model.add(layers.Dense(units, name=name))
    model.set_weights([np.ones_like(w) for w in model.get_weights()])
    with pytest.raises(ValueError, match=r"the weights of 4 layers\. Received: 3"):
        model.load_weights(tmp_path / "w.h5")
    model.load_weights(tmp_path / "w.h5", by_name=True)
    assert [w.flat[0] for w in model.get_weights()] == [1, 1, 1, 1, 1, 1, 7, 7]
    network(4).save_weights(tmp_path / "w.weights.h5")
    network(4).save_weights(tmp_path / "w.safetensors")
    for name in ("w.weights.h5", "w.safetensors"):
        with pytest.raises(ValueError, match="`by_name` needs a file in Keras 2's layout"):
            model.load_weights(tmp_path / name, by_name=True)


def test_damage_is_never_skipped(tmp_path: Path) -> None:
    path = tmp_path / "w.weights.h5"
    network(4).save_weights(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match="cannot be read"):
        network(4).load_weights(path, skip_mismatch=True)


def test_options_without_effect_are_taken_and_others_refused(tmp_path: Path) -> None:
    model = network(4)
    path = tmp_path / "m.keras"
    model.save(filepath=path, overwrite=True, zipped=True)
    for safe in (True, False):
        read = models.load_model(filepath=path, safe_mode=safe)
        np.testing.assert_array_equal(read.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="`zipped` must be True or None"):
        models.save_model(model, path, zipped=False)
    with pytest.raises(ValueError, match="`max_shard_size` must be None"):
        model.save_weights(tmp_path / "w.weights.h5", max_shard_size=1)
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


def test_methods_have_the_arguments_of_the_functions() -> None:
    for name in ("save_weights", "load_weights"):
        function = inspect.signature(getattr(saving, name)).parameters
        method = inspect.signature(getattr(Sequential, name)).parameters
        assert list(function)[1:] == list(method)[1:]
        assert all(function[n].default == method[n].default for n in list(method)[1:])
