"""Files that are damaged, or that should not be trusted: what is read of them, and what is said."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn.models import load_model
from trained_model import trained

h5py = pytest.importorskip("h5py", reason="Keras' files are HDF5 files")


def parts(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def with_config(entries: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> Any:
    config = json.loads(entries["config.json"])
    change(config)
    return entries | {"config.json": json.dumps(config).encode()}


def with_weights(entries: dict[str, bytes], change: Callable[[Any], None]) -> Any:
    memory = io.BytesIO(entries["model.weights.h5"])
    with h5py.File(memory, "r+") as file:
        change(file)
    return entries | {"model.weights.h5": memory.getvalue()}


def set_layer(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][index] |= changes

    return change


def set_option(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][index]["config"] |= changes

    return change


def policy(class_name: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras", "class_name": class_name, "config": config}


def foreign(module: str, class_name: str) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": {}, "registered_name": None}


def auc(**options: Any) -> dict[str, Any]:
    return {"module": "keras.metrics", "class_name": "AUC", "config": options}


KERNEL = "layers/dense/vars/0"


def replace_kernel(**how: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, **how)

    return change


def link(target: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[KERNEL]
        file[KERNEL] = target

    return change


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "no config": (lambda e: {k: v for k, v in e.items() if k != "config.json"}, "has no config"),
    "no weights": (lambda e: {k: v for k, v in e.items() if "h5" not in k}, "has no model.weights"),
    "no JSON": (lambda e: e | {"config.json": b"{"}, "config.json in the file is no JSON"),
    "deep JSON": (lambda e: e | {"config.json": b"[" * 10**6}, "is no JSON"),
    "a list": (lambda e: e | {"config.json": b"[]"}, "must hold a Sequential model"),
    "functional": (
        lambda e: with_config(e, lambda c: c.update(class_name="Functional")),
        "must hold a Sequential model, or a subclass .* Received: 'Functional'",
    ),
    "no layers": (
        lambda e: with_config(e, lambda c: c["config"].pop("layers")),
        "has no list of layers",
    ),
    "a foreign class": (
        lambda e: with_config(e, set_layer(1, module="os", class_name="system")),
        "class os.system, which fusednn does not have",
    ),
    "a lambda": (
        lambda e: with_config(e, set_layer(1, class_name="Lambda")),
        "keras.layers.Lambda, which fusednn does not have",
    ),
    "a name that is no layer": (
        lambda e: with_config(e, set_layer(1, class_name="Input")),
        "fusednn does not have",
    ),
    "mixed precision": (
        lambda e: with_config(e, set_option(1, dtype=policy("DTypePolicy", name="mixed_float16"))),
        "`dtype` of layer 'first' .* must be float32 or float64: mixed precision is not supported",
    ),
    "several types": (
        lambda e: with_config(e, set_option(1, dtype=policy("DTypePolicyMap", policy_map={}))),
        "`dtype` of layer 'first' .* must be float32 or float64",
    ),
    "an activation from elsewhere": (
        lambda e: with_config(e, set_option(1, activation=foreign("os", "system"))),
        "an object of the class os.system, which fusednn does not have",
    ),
    "an initializer from elsewhere": (
        lambda e: with_config(e, set_option(1, kernel_initializer=foreign("evil", "Zeros"))),
        "an object of the class evil.Zeros",
    ),
    "an optimizer from elsewhere": (
        lambda e: with_config(
            e, lambda c: c["compile_config"].update(optimizer=foreign("evil", "Adam"))
        ),
        "an object of the class evil.Adam",
    ),
    "several losses": (
        lambda e: with_config(e, lambda c: c["compile_config"].update(loss_weights=[1, 2])),
        "`loss_weights` must be of the one output",
    ),
    "an option of a metric": (
        lambda e: with_config(
            e, lambda c: c["compile_config"].update(metrics=[auc(top_k=3)])
        ),
        "`top_k` of AUC must be off",
    ),
    "an option": (lambda e: with_config(e, set_option(1, lora_rank=3)), "`lora_rank` of layer"),
    "absurd units": (
        lambda e: with_config(e, set_option(1, units=10**12)),
        "must not need more weights than the file holds",
    ),
    "absurd input": (
        lambda e: with_config(e, set_option(0, batch_shape=[None, 10**12])),
        "must not need more weights than the file holds",
    ),
    "no HDF5": (lambda e: e | {"model.weights.h5": b"nonsense"}, "is no HDF5 file"),
    "truncated": (
        lambda e: e | {"model.weights.h5": e["model.weights.h5"][:3000]},
        "is no HDF5 file, or is damaged",
    ),
    "another shape": (
        lambda e: with_weights(e, replace_kernel(data=np.zeros((6, 9)))),
        r"array of shape \(6, 8\) for 'first/kernel'.*\(6, 9\)",
    ),
    "an absurd shape": (
        lambda e: with_weights(
            e, replace_kernel(shape=(10**6, 10**6), dtype="f4", chunks=(10, 10))
        ),
        r"array of shape \(6, 8\)",
    ),
    "strings": (
        lambda e: with_weights(e, replace_kernel(data=np.full((6, 8), b"a"))),
        "must hold real numbers for 'first/kernel'",
    ),
    "another file's data": (
        lambda e: with_weights(
            e,
            replace_kernel(shape=(6, 8), dtype="u1", external=[("/etc/hostname", 0, 48)]),
        ),
        "in another file: that is refused",
    ),
    "a link outside": (
        lambda e: with_weights(e, link(h5py.ExternalLink("/etc/hostname", "/"))),
        "links are refused",
    ),
    "a soft link": (lambda e: with_weights(e, link(h5py.SoftLink("/layers"))), "links are refused"),
    "a group": (
        lambda e: with_weights(e, lambda f: (f.__delitem__(KERNEL), f.create_group(KERNEL))),
        "has no array for",
    ),
    "one array too few": (
        lambda e: with_weights(e, lambda f: f.__delitem__("layers/dense/vars/1")),
        "must hold 2 arrays for layer 'first'. Received: 1",
    ),
    "an optimizer of another size": (
        lambda e: with_weights(e, lambda f: f.__delitem__("optimizer/vars/5")),
        "arrays for the optimizer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    model = trained()
    model.save(tmp_path / "good.keras")
    spoil, message = HOSTILE[name]
    bad = archived(tmp_path / "bad.keras", spoil(parts(tmp_path / "good.keras")))
    with pytest.raises(ValueError, match=f"{bad}.*{message}"):
        load_model(bad)


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    trained().save(tmp_path / "good.keras")
    entries = parts(tmp_path / "good.keras")
    for name in ("config.json", "model.weights.h5"):
        bad = archived(
            tmp_path / "bad.keras", entries | {name: bytes(80 * 2**20)}, zipfile.ZIP_DEFLATED
        )
        assert bad.stat().st_size < 2**20
        with pytest.raises(ValueError, match=f"{name} in the file must have at most"):
            load_model(bad)


def test_damage_is_noticed(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "m.keras")
    data = bytearray((tmp_path / "m.keras").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "bad.keras").write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: Bad CRC"):
        load_model(tmp_path / "bad.keras")
    (tmp_path / "cut.keras").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"begins as a zip archive .* cut off"):
        load_model(tmp_path / "cut.keras")
    with pytest.raises(ValueError, match=r"begins as a zip archive .* cut off"):
        model.load_weights(tmp_path / "cut.keras")
    (tmp_path / "other.keras").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is no HDF5 file"):
        load_model(tmp_path / "other.keras")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(ValueError, match="holds no model: weights alone"):
        load_model(tmp_path / "empty.h5")
