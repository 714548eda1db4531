"""Data sets with a name: original files that the user has, and tables of scikit-learn."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import datasets
from fusednn.cli import main
from fusednn.datasets import (
    breast_cancer,
    california_housing,
    cifar10,
    diabetes,
    fashion_mnist,
    mnist,
    scikit_learn_files,
    wine,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (15, 28, 28), dtype=np.uint8)
LABELS = (np.arange(15) % 10).astype(np.uint8)
PAIRS = ((IMAGES, LABELS), (IMAGES[:5], LABELS[:5]))
NAMES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Look for Keras' cache in a folder of this test."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "datasets"


def idx(x: np.ndarray) -> bytes:
    sizes = np.array(x.shape, ">u4").tobytes()
    return bytes([0, 0, 8, x.ndim]) + sizes + x.tobytes()


def write_idx(folder: Path, *, compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for names, arrays in zip(NAMES, PAIRS, strict=True):
        for name, array in zip(names, arrays, strict=True):
            content = idx(array)
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


def write_npz(path: Path, **changed: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (x_train, y_train), (x_test, y_test) = PAIRS
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test} | changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def assert_pairs(got: Any) -> None:
    for pair, expected in zip(got, PAIRS, strict=True):
        for array, wanted in zip(pair, expected, strict=True):
            assert array.dtype == np.uint8
            np.testing.assert_array_equal(array, wanted)


# ---- MNIST and Fashion-MNIST


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("inside", [".", "raw", "MNIST/raw"])
def test_idx_files(tmp_path: Path, module: Any, compress: bool, inside: str) -> None:
    write_idx(tmp_path / "mine" / inside, compress=compress)
    assert_pairs(module.load_data(tmp_path / "mine"))
    assert_pairs(module.load_data("mine"))


def test_npz_of_keras(tmp_path: Path, no_cache: Path) -> None:
    assert_pairs(mnist.load_data(write_npz(tmp_path / "mine.npz")))
    write_npz(no_cache / "mnist.npz")
    assert_pairs(mnist.load_data())
    assert_pairs(mnist.load_data("mnist.npz"))
    write_idx(no_cache / "fashion-mnist", compress=True)
    assert_pairs(fashion_mnist.load_data())


def test_labeled_images(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "mine")
    data = fashion_mnist.load(folder)
    assert data.classes == fashion_mnist.CLASSES
    assert data.pixel_max == 255
    np.testing.assert_array_equal(data.y_test, LABELS[:5])
    assert mnist.load(folder).classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("load", "places"),
    [
        (mnist.load_data, r"mnist\.npz, .*datasets/mnist, .*Get it from https://storage.*lecun"),
        (cifar10.load_data, r"cifar-10-batches-bin, .*Get it from https://www\.cs\.toronto\.edu"),
        (california_housing.load_data, r"california_housing\.npz, .*cache/datasets/california_hou"),
    ],
)
def test_files_that_are_not_there(load: Callable[..., Any], places: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"is not there, and is not downloaded.*{places}"):
        load()
    with pytest.raises(FileNotFoundError, match=r"Looked for: a/b, .*cache/datasets/a/b\. Get it"):
        load(path="a/b")


def test_fashion_mnist_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="zalandoresearch/fashion-mnist and give"):
        fashion_mnist.load_data(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (NAMES[0][0], None, "must hold the files of MNIST. Missing: train-images-idx3-ubyte or "),
        (NAMES[1][1], None, r"Missing: t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"),
        (NAMES[0][0], idx(IMAGES)[:-1], "truncated: its header says 15x28x28 elements"),
        (NAMES[0][0], b"\1" + idx(IMAGES), "not an IDX file"),
        (NAMES[0][0], idx(IMAGES[:, 1:]), r"images must be uint8 of shape \(n, 28, 28\).*27, 28"),
        (NAMES[0][0], idx(IMAGES[:0]), r"images must be uint8.*\(0, 28, 28\)"),
        (NAMES[0][1], idx(LABELS[1:]), r"labels must be uint8 of shape \(15,\).*\(14,\)"),
        (NAMES[0][1], idx(LABELS + 1), r"labels must be 0 \.\.\. 9\. Received: 10 at 9"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    folder = write_idx(tmp_path / "mine")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        mnist.load_data(folder)


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(ValueError, match=r"a\.npz: must hold x_train, y_train.*Missing: y_test"):
        mnist.load_data(write_npz(path, y_test=None))
    with pytest.raises(ValueError, match=r"images must be uint8.*float64"):
        mnist.load_data(write_npz(path, x_train=IMAGES / 255))
    with pytest.raises(ValueError, match=r"a\.npz: y_train: must hold numbers.*Python objects"):
        mnist.load_data(write_npz(path, y_train=np.array([{}], object)))
    content = write_npz(path).read_bytes()
    for length in range(0, len(content), 997):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.npz: not a \.npz archive, or damaged"):
            mnist.load_data(path)
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.txt: must be a folder of IDX files .*or a \.npz"):
        mnist.load_data(tmp_path / "a.txt")


# ---- CIFAR-10

BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Return pictures, classes, and the content of a file of them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    y = ((np.arange(count, dtype=np.uint8) + 3 * seed) % 10)[:, None]
    content = b"".join(
        bytes(label) + b"".join(picture[:, :, c].tobytes() for c in range(3))
        for picture, label in zip(x, y, strict=True)
    )
    return x, y, content


def write_cifar(folder: Path) -> list[tuple[np.ndarray, np.ndarray, bytes]]:
    folder.mkdir(parents=True)
    parts = [pictures(3 + i, i) for i in range(6)]
    for name, (_, _, content) in zip(BATCHES, parts, strict=True):
        (folder / name).write_bytes(content)
    return parts


def archive(folder: Path, path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        file.add(folder, "cifar-10-batches-bin")
    return path


@pytest.mark.parametrize("form", ["folder", "archive", "cache", "plain tar"])
def test_cifar10(tmp_path: Path, no_cache: Path, form: str) -> None:
    folder = tmp_path / "a" if form != "cache" else no_cache / "cifar-10-batches-bin"
    parts = write_cifar(folder)
    path: Path | None = {"folder": folder, "cache": None}.get(form)
    if form == "archive":
        path = archive(folder, tmp_path / "cifar-10-binary.tar.gz")
    elif form == "plain tar":
        path = archive(folder, tmp_path / "cifar-10-binary.tar", "w")
    (x_train, y_train), (x_test, y_test) = cifar10.load_data(path)
    np.testing.assert_array_equal(x_train, np.concatenate([x for x, _, _ in parts[:5]]))
    np.testing.assert_array_equal(y_train, np.concatenate([y for _, y, _ in parts[:5]]))
    np.testing.assert_array_equal(x_test, parts[5][0])
    np.testing.assert_array_equal(y_test, parts[5][1])
    assert x_train.dtype == y_train.dtype == np.uint8
    assert x_train.flags.c_contiguous
    if path is not None:
        data = datasets.load(path)
        assert set(data.classes) <= set(cifar10.CLASSES)
        names = [data.classes[i] for i in data.y_test]
        assert names == [cifar10.CLASSES[int(i)] for i in y_test[:, 0]]


def test_pickled_cifar10_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in BATCHES:
        (folder / name.removesuffix(".bin")).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    path = archive(folder, tmp_path / "cifar-10-python.tar.gz")
    for place in (folder, path):
        for load in (cifar10.load_data, datasets.load):
            with pytest.raises(ValueError, match=r"pickled.*Get the binary version.*binary\.tar"):
                load(place)


def test_damaged_cifar10(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_cifar(folder)
    path = archive(folder, tmp_path / "cifar-10-binary.tar.gz")
    whole = path.read_bytes()
    for length in (0, 10, 1000, len(whole) // 2, len(whole) - 2000):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"binary\.tar\.gz: (not an arch|must hold)"):
            cifar10.load_data(path)
    file = folder / "data_batch_2.bin"
    content = file.read_bytes()
    for changed, message in (
        (content[:-1], r"data_batch_2\.bin: must hold up to 10,000 pictures of 3073 bytes.*12291"),
        (b"", "must hold up to 10,000 pictures.*Received: 0 bytes"),
        (content[:3073] + b"\xff" + content[3074:], "must be 0 ... 9. Received: 255 at picture 1"),
        (bytes(10_001 * 3073), "Received: more bytes"),
    ):
        file.write_bytes(changed)
        for place in (folder, archive(folder, path)):
            with pytest.raises(ValueError, match=message):
                cifar10.load_data(place)
    file.unlink()
    for place in (folder, archive(folder, path)):
        with pytest.raises(ValueError, match=r"files of CIFAR-10\. Missing: data_batch_2\.bin"):
            cifar10.load_data(place)


def test_names_in_archives_lead_nowhere(tmp_path: Path) -> None:
    """A link is not followed, and nothing is written."""
    path = tmp_path / "cifar-10-binary.tar"
    with tarfile.open(path, "w") as file:
        link = tarfile.TarInfo("../../data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link, io.BytesIO())
    with pytest.raises(ValueError, match="Missing: data_batch_1"):
        cifar10.load_data(path)
    assert [p.name for p in tmp_path.iterdir()] == ["cifar-10-binary.tar"]


# ---- California housing


def test_california_housing(tmp_path: Path, no_cache: Path) -> None:
    no_cache.mkdir(parents=True)
    x = RNG.standard_normal((700, 8)).astype("float32")
    y = x[:, 0].copy()
    np.savez(no_cache / "california_housing.npz", x=x, y=y)
    (x_train, y_train), (x_test, y_test) = california_housing.load_data()
    assert x_train.shape == (560, 8)
    assert x_test.shape == (140, 8)
    np.testing.assert_array_equal(np.concatenate([x_train, x_test])[:, 0], [*y_train, *y_test])
    assert sorted(np.concatenate([y_train, y_test])) == sorted(y)
    small, _ = california_housing.load_data("small", test_split=0.0)
    assert set(small[1].tolist()) == set(y[:600].tolist())
    with pytest.raises(ValueError, match=r"`version` must be 'large' or 'small'.*'tiny'"):
        california_housing.load_data("tiny")
    with pytest.raises(ValueError, match=r"`test_split` must be in \[0, 1\)\. Received.*=1"):
        california_housing.load_data(test_split=1.0)
    np.savez(tmp_path / "a.npz", x=x, y=y[1:])
    with pytest.raises(ValueError, match=r"a\.npz: must hold numbers, x of shape \(n, 8\)"):
        california_housing.load_data(path=tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=x)
    with pytest.raises(ValueError, match=r"a\.npz: must hold x, y\. Missing: y"):
        california_housing.load_data(path=tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"a\.npz: not a \.npz archive, or damaged"):
        california_housing.load_data(path=tmp_path / "a.npz")
    (tmp_path / "a.csv").write_text("longitude,latitude\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv: not a .*`fusednn.datasets.load_csv` reads"):
        california_housing.load_data(path=tmp_path / "a.csv")


# ---- of scikit-learn


@pytest.mark.parametrize(
    ("module", "name", "examples", "features", "options"),
    [
        (breast_cancer, "load_breast_cancer", 569, 30, {}),
        (wine, "load_wine", 178, 13, {}),
        (diabetes, "load_diabetes", 442, 10, {"scaled": False}),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
def test_tables_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    examples: int,
    features: int,
    options: dict[str, Any],
    moved: bool,
) -> None:
    sklearn = pytest.importorskip("sklearn.datasets", reason="the tables come with scikit-learn")
    if moved:
        monkeypatch.setattr(scikit_learn_files, "_FOLDER", ("moved",))
    x, y = getattr(sklearn, name)(return_X_y=True, **options)
    (x_train, y_train), (x_test, y_test) = module.load_data()
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.dtype == (np.float32 if module is diabetes else np.int64)
    assert len(x_test) == pytest.approx(examples / 5, abs=1)
    both = np.concatenate([x_train, x_test])
    assert both.shape == (examples, features)
    rows = {tuple(row): target for row, target in zip(x.astype("f4").tolist(), y, strict=True)}
    for row, target in zip(both.tolist(), [*y_train, *y_test], strict=True):
        assert rows[tuple(row)] == target
    if module is not diabetes:
        assert module.load().classes == (
            ("malignant", "benign") if module is breast_cancer else ("0", "1", "2")
        )


@pytest.mark.parametrize("module", [breast_cancer, wine, diabetes])
def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setattr(scikit_learn_files, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"come with scikit-learn.*pip install scikit"):
        module.load_data()


# ---- on the command line


@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_training_on_tables(capsys: pytest.CaptureFixture[str], name: str) -> None:
    pytest.importorskip("sklearn", reason="the tables come with scikit-learn")
    assert main(["train", name, "--epochs", "20", "--quiet"]) == 0
    match = re.search(r"test accuracy +([\d.]+)", capsys.readouterr().out)
    assert match is not None
    assert float(match[1]) > 0.9


def test_training_on_files_in_the_cache(capsys: pytest.CaptureFixture[str], no_cache: Path) -> None:
    options = ["--epochs", "1", "--layers", "4"]
    assert main(["train", "mnist", *options]) == 2
    assert "MNIST is not there, and is not downloaded" in capsys.readouterr().err
    write_idx(no_cache / "mnist")
    assert main(["train", "mnist", *options]) == 0
    assert "MNIST: 15 examples for training, 5 for testing" in capsys.readouterr().out
    write_cifar(no_cache / "cifar-10-batches-bin")
    assert main(["train", "cifar10", *options]) == 0
    assert "32 x 32 x 3; pixels divided by 255" in capsys.readouterr().out
