"""MNIST-style IDX files: what the reader returns, and how it refuses what is malformed."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fusednn import datasets

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(x: np.ndarray) -> bytes:
    """The IDX file of an array, from the format's description."""
    head = bytes([0, 0, IDX_CODES[x.dtype.str[1:]], x.ndim])
    return (
        head + struct.pack(f">{x.ndim}I", *x.shape) + x.astype(x.dtype.newbyteorder(">")).tobytes()
    )


def write_images(
    folder: Path, prefix: str, count: int = 6, *, compress: bool = False
) -> np.ndarray:
    """Write a pair of IDX files with labels 0, 1, 2, 0, ...; return the images."""
    images = np.arange(count * 6, dtype=np.uint8).reshape(count, 2, 3)
    labels = np.arange(count, dtype=np.uint8) % 3
    for name, array in (
        (f"{prefix}images-idx3-ubyte", images),
        (f"{prefix}labels-idx1-ubyte", labels),
    ):
        content = idx_bytes(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return images


class TestIdx:
    @pytest.mark.parametrize("dtype", IDX_CODES)
    @pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 1, 3), (0, 4)])
    def test_dtypes_and_shapes(self, tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        x = (np.arange(np.prod(shape)).reshape(shape) * 3 + 1).astype(dtype)
        (tmp_path / "a").write_bytes(idx_bytes(x))
        read = datasets.read_idx(tmp_path / "a")
        assert read.dtype == x.dtype
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, x)

    @pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
    def test_folder(self, tmp_path: Path, compress: bool) -> None:
        train = write_images(tmp_path, "train-", 6, compress=compress)
        test = write_images(tmp_path, "t10k-", 3, compress=compress)
        data = datasets.load(tmp_path)
        np.testing.assert_array_equal(data.x_train, train)
        np.testing.assert_array_equal(data.y_train, [0, 1, 2, 0, 1, 2])
        np.testing.assert_array_equal(data.x_test, test)
        np.testing.assert_array_equal(data.y_test, [0, 1, 2])
        assert data.classes == ("0", "1", "2")
        assert data.pixel_max == 255.0

    def test_plain_files_beside_gzipped_ones(self, tmp_path: Path) -> None:
        write_images(tmp_path, "train-", 9, compress=True)
        write_images(tmp_path, "train-", 6)
        assert len(datasets.load(tmp_path).x_train) == 6

    def test_images_path_reads_that_pair_alone(self, tmp_path: Path) -> None:
        write_images(tmp_path, "train-", 6)
        write_images(tmp_path, "t10k-", 3, compress=True)
        assert len(datasets.load(tmp_path / "train-images-idx3-ubyte").x_test) == 0
        assert len(datasets.load(tmp_path / "t10k-images-idx3-ubyte.gz").x_train) == 3

    def test_labels_of_another_compression_than_the_images(self, tmp_path: Path) -> None:
        write_images(tmp_path, "", 6)
        labels = tmp_path / "labels-idx1-ubyte"
        (tmp_path / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels.read_bytes()))
        labels.unlink()
        assert datasets.load(tmp_path / "images-idx3-ubyte").y_train.tolist() == [0, 1, 2, 0, 1, 2]

    @pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
    def test_every_truncation(self, tmp_path: Path, compress: bool) -> None:
        write_images(tmp_path, "", 6)
        path = tmp_path / "images-idx3-ubyte"
        content = path.read_bytes()
        for size in range(len(content)):
            part = content[:size]
            path.write_bytes(gzip.compress(part) if compress else part)
            with pytest.raises(ValueError, match=r"images-idx3-ubyte: (truncated|not an IDX file)"):
                datasets.read_idx(path)

    def test_truncated_and_damaged_gzip(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gz"
        content = gzip.compress(idx_bytes(np.arange(1000, dtype=np.int32)))
        for size in range(2, len(content), 41):
            path.write_bytes(content[:size])
            with pytest.raises(ValueError, match=r"a\.gz: the gzip data is truncated"):
                datasets.read_idx(path)
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 0xFF
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"a\.gz: (the gzip data is damaged|truncated)"):
            datasets.read_idx(path)

    def test_absurd_sizes(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(bytes([0, 0, 8, 4]) + b"\xff" * 16 + b"abc")
        with pytest.raises(ValueError, match=r"truncated: .* Received: 3"):
            datasets.read_idx(path)
        path.write_bytes(idx_bytes(np.zeros(3, np.uint8)) + b"\0")
        with pytest.raises(
            ValueError, match=r"too long: its header says 3 elements .* Received: more"
        ):
            datasets.read_idx(path)

    def test_labels_missing(self, tmp_path: Path) -> None:
        write_images(tmp_path, "train-")
        (tmp_path / "train-labels-idx1-ubyte").unlink()
        with pytest.raises(
            ValueError, match=r"must stand beside it as train-labels-idx1-ubyte or "
        ):
            datasets.load(tmp_path)

    def test_name_without_images(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(idx_bytes(np.zeros((2, 2), np.uint8)))
        with pytest.raises(ValueError, match=r'the name of an IDX file must hold "images"'):
            datasets.load(tmp_path / "a")

    def test_folders_that_cannot_be_meant(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"Received: no file \*images-idx3\*"):
            datasets.load(tmp_path)
        write_images(tmp_path, "t10k-")
        with pytest.raises(ValueError, match=r"Received: t10k-images-idx3-ubyte"):
            datasets.load(tmp_path)
        write_images(tmp_path, "a-")
        write_images(tmp_path, "b-")
        with pytest.raises(
            ValueError, match=r"Received: a-images-idx3-ubyte, b-images-idx3-ubyte, t10k"
        ):
            datasets.load(tmp_path)

    def test_lengths_differ(self, tmp_path: Path) -> None:
        write_images(tmp_path, "")
        (tmp_path / "labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(5, np.uint8)))
        with pytest.raises(ValueError, match=r"images-idx3-ubyte and labels-idx1-ubyte .* 6 and 5"):
            datasets.load(tmp_path)
