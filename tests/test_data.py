"""`data.Dataset`: which elements in which order, how little memory, and what is refused."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import utils
from fusednn.data import (
    INFINITE_CARDINALITY,
    UNKNOWN_CARDINALITY,
    Dataset,
    PyDataset,
    map_npy,
    map_npz,
)
from fusednn.layers import Dense, Input
from fusednn.models import Sequential


def numbers(count: int = 10) -> Dataset:
    return Dataset.from_tensor_slices(np.arange(count))


def listed(data: Dataset) -> list[Any]:
    return [element.tolist() for element in data]


def yielded(count: int = 10) -> Dataset:
    return Dataset.from_generator(lambda: (np.array(i) for i in range(count)))


# ---- which elements


def test_rows_of_several_arrays() -> None:
    x = np.arange(6.0).reshape(3, 2)
    rows = list(Dataset.from_tensor_slices((x, [5, 6, 7])))
    assert [(a.tolist(), b.tolist()) for a, b in rows] == [([0, 1], 5), ([2, 3], 6), ([4, 5], 7)]
    (single,) = Dataset.from_tensor_slices((np.ones(1),))
    assert isinstance(single, tuple)


@pytest.mark.parametrize("make", [numbers, yielded])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 97])
def test_batches(make: Callable[[int], Dataset], count: int) -> None:
    whole = [list(range(start, start + 8)) for start in range(0, count - 7, 8)]
    rest = list(range(count - count % 8, count))
    assert listed(make(count).batch(8, drop_remainder=True)) == whole
    assert listed(make(count).batch(8)) == whole + ([rest] if rest else [])


def test_batches_in_order_are_views() -> None:
    x = np.arange(20.0).reshape(10, 2)
    for batch in Dataset.from_tensor_slices(x).skip(1).batch(4):
        assert np.shares_memory(batch, x)
    utils.set_random_seed(0)
    for batch in Dataset.from_tensor_slices(x).shuffle().batch(4):
        assert not np.shares_memory(batch, x)


def test_batches_of_batches() -> None:
    twice = numbers(12).batch(2).batch(3)
    assert [batch.shape for batch in twice] == [(3, 2), (3, 2)]
    assert listed(twice)[1] == [[6, 7], [8, 9], [10, 11]]


@pytest.mark.parametrize("make", [numbers, yielded])
def test_take_skip_repeat(make: Callable[[int], Dataset]) -> None:
    data = make(5)
    assert listed(data.take(2)) == [0, 1]
    assert listed(data.take(9)) == listed(data.take(-1)) == [0, 1, 2, 3, 4]
    assert listed(data.take(0)) == listed(data.skip(-1)) == listed(data.repeat(0)) == []
    assert listed(data.skip(3)) == [3, 4]
    assert listed(data.skip(9)) == []
    assert listed(data.repeat(2).skip(4).take(3)) == [4, 0, 1]
    assert listed(data.repeat().take(12))[10:] == [0, 1]
    assert listed(data.batch(2).skip(1)) == [[2, 3], [4]]
    assert listed(make(0).repeat()) == []


def test_take_asks_for_no_more() -> None:
    asked: list[int] = []

    def make() -> Iterator[np.ndarray]:
        for i in range(10):
            asked.append(i)
            yield np.array(i)

    assert listed(Dataset.from_generator(make).take(3)) == [0, 1, 2]
    assert asked == [0, 1, 2]


def test_map_of_elements_and_of_batches() -> None:
    data = Dataset.from_tensor_slices((np.arange(4), np.arange(4) * 10))
    assert listed(data.map(lambda x, y: x + y)) == [0, 11, 22, 33]
    assert listed(data.map(lambda x, y: x + y).batch(3)) == [[0, 11, 22], [33]]
    assert listed(data.batch(2).map(lambda x, y: (x + y).sum())) == [11, 55]
    pairs = list(data.map(lambda x, y: (y, x)).batch(4))
    assert pairs[0][0].tolist() == [0, 10, 20, 30]


@pytest.mark.parametrize("make", [numbers, yielded])
def test_cardinality(make: Callable[[int], Dataset]) -> None:
    known = make is numbers
    data = make(10)
    for changed, count in (
        (data, 10),
        (data.batch(4), 3),
        (data.batch(4, drop_remainder=True), 2),
        (data.shuffle().repeat(3).prefetch(1).map(abs), 30),
        (data.skip(4), 6),
        (data.skip(40), 0),
        (data.take(4), 4),
        (data.take(40), 10),
    ):
        assert len(listed(changed)) == count
        assert changed.cardinality() == (count if known else UNKNOWN_CARDINALITY)
    assert data.repeat().cardinality() == INFINITE_CARDINALITY
    assert data.repeat().take(7).cardinality() == 7
    assert data.take(0).cardinality() == 0
    assert (len(data) == 10) if known else not hasattr(data, "length")
    with pytest.raises(TypeError, match="never end"):
        len(data.repeat())
    with pytest.raises(TypeError, match=r"<Dataset\.from_generator.*of unknown length>"):
        len(yielded())
    assert yielded()


# ---- chance


@pytest.mark.parametrize("make", [numbers, yielded])
@pytest.mark.parametrize("buffer_size", [None, 1, 2, 7, 97, 100, 1000])
def test_shuffled_elements_are_all_there(
    make: Callable[[int], Dataset], buffer_size: int | None
) -> None:
    order = listed(make(100).shuffle(buffer_size, seed=1))
    assert sorted(order) == list(range(100))
    assert (order == list(range(100))) == (buffer_size == 1)
    if buffer_size is not None:  # none comes before the buffer reaches it
        assert all(element < place + 2 * buffer_size for place, element in enumerate(order))


def test_buffers_larger_than_a_block() -> None:
    order = listed(numbers(50_000).shuffle(20_000, seed=3))
    assert sorted(order) == list(range(50_000))
    assert max(order[:1000]) < 30_000
    means = np.reshape(order, (10, -1)).mean(axis=1)
    assert np.corrcoef(means, np.arange(10))[0, 1] > 0.9


def test_each_order_is_as_likely() -> None:
    counts: dict[tuple[int, ...], int] = {}
    data = numbers(3).shuffle(seed=5)
    for _ in range(1200):
        order = tuple(listed(data))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(140 < count < 260 for count in counts.values())


@pytest.mark.parametrize("seed", [None, 4])
def test_orders_of_iterations(seed: int | None) -> None:
    def orders() -> list[list[int]]:
        utils.set_random_seed(0)
        data = numbers(30).shuffle(seed=seed).repeat(2)
        return [listed(data) for _ in range(2)]

    first, second = orders()
    assert first != second
    assert first[:30] != first[30:]
    assert [first, second] == orders()


@pytest.mark.parametrize("seed", [None, 4])
def test_one_order_for_all_iterations(seed: int | None) -> None:
    data = numbers(30).shuffle(seed=seed, reshuffle_each_iteration=False).repeat(2)
    first = listed(data)
    assert first[:30] == first[30:]
    assert first == listed(data)
    assert first[:30] != list(range(30))


def test_two_shuffles_do_not_repeat_each_other() -> None:
    once = listed(numbers(30).shuffle(seed=1))
    twice = listed(numbers(30).shuffle(seed=1).shuffle(seed=1))
    inverse = np.argsort(once)
    assert twice != [once[i] for i in once]
    assert twice != [once[i] for i in inverse]


def test_batches_may_be_shuffled() -> None:
    batches = listed(numbers(40).batch(4).shuffle(seed=2))
    assert sorted(batches) == np.arange(40).reshape(10, 4).tolist()
    assert batches != sorted(batches)


# ---- the thread


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "fusednn prefetch"]


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_prefetching_changes_nothing(ahead: int) -> None:
    def orders(*, prefetch: bool) -> list[list[int]]:
        utils.set_random_seed(1)
        data = numbers(97).shuffle(10).batch(4)
        data = data.prefetch(ahead) if prefetch else data
        return [listed(data) for _ in range(2)]

    assert orders(prefetch=True) == orders(prefetch=False)
    assert not threads()


def test_prefetching_is_ahead_by_so_many() -> None:
    made: list[int] = []
    enough = threading.Event()

    def make() -> Iterator[np.ndarray]:
        for i in range(50):
            made.append(i)
            if i == 4:
                enough.set()
            yield np.array(i)

    iterator = iter(Dataset.from_generator(make).prefetch(4))
    assert next(iterator) == 0
    assert enough.wait(30)  # one taken, and four more without being asked for
    assert made == [0, 1, 2, 3, 4]
    iterator.close()  # type: ignore[attr-defined]
    assert not threads()


def test_a_thread_passes_on_what_it_raises() -> None:
    def make() -> Iterator[np.ndarray]:
        yield np.array(1)
        raise OSError("the disk is gone")

    elements = iter(Dataset.from_generator(make).prefetch(2))
    assert next(elements) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(elements)
    assert not threads()
    with pytest.raises(ZeroDivisionError):
        list(numbers().map(lambda x: 1 // 0).prefetch(1))


def test_a_thread_ends_where_nobody_goes_on() -> None:
    for _ in numbers(1000).prefetch(2):
        break
    gc.collect()
    assert not threads()


# ---- files


def test_memory_maps_of_npy(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6, dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    batches = list(Dataset.from_npy(tmp_path / "x.npy", tmp_path / "y.npy").batch(4))
    np.testing.assert_array_equal(batches[1][0], x[4:])
    np.testing.assert_array_equal(batches[1][1], y[4:])
    assert not batches[0][0].flags.writeable
    (only,) = Dataset.from_npy(tmp_path / "x.npy").batch(6)
    np.testing.assert_array_equal(only, x)
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    np.testing.assert_array_equal(map_npy(tmp_path / "f.npy"), x)
    np.save(tmp_path / "none.npy", x[:0])
    assert map_npy(tmp_path / "none.npy").shape == (0, 2)


def test_memory_maps_of_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6)
    np.savez(path, other=[1], x=x, y=y)
    maps = map_npz(path)
    assert sorted(maps) == ["other", "x", "y"]
    np.testing.assert_array_equal(maps["x"], x)
    ((first, second),) = Dataset.from_npz(path).batch(6)
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(second, y)
    (only,) = Dataset.from_npz(path, "y").batch(6)
    np.testing.assert_array_equal(only, y)
    np.savez(path, x_train=x, y_train=y)
    assert len(Dataset.from_npz(path)) == 6
    with pytest.raises(ValueError, match=r"a\.npz: must hold the array 'z'\. Received: x_train"):
        Dataset.from_npz(path, ["x_train", "z"])


def test_files_that_cannot_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(9))
    with pytest.raises(ValueError, match=r"a\.npz: x is compressed.*numpy\.savez"):
        map_npz(path)
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(ValueError, match=r"a\.npz: x: must hold numbers\. Received: Python obj"):
        map_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match=r"must hold arrays\. Received: no array"):
        map_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"nothing")
    with pytest.raises(ValueError, match=r"a\.npz: x: not an array in \.npy format"):
        map_npz(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.npz: not a \.npz archive, or truncated"):
        map_npz(path)
    with pytest.raises(ValueError, match=r"a\.npz: not an array in \.npy format"):
        map_npy(path)
    with pytest.raises(FileNotFoundError):
        map_npy(tmp_path / "nothing.npy")


def test_every_truncation(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    np.savez(tmp_path / "a.npz", x=np.arange(4))
    for name, read in (("a.npy", map_npy), ("a.npz", map_npz)):
        content = (tmp_path / name).read_bytes()
        for length in range(len(content)):
            (tmp_path / "cut").write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"cut: (x: )?(not|truncated|the archive)"):
                read(tmp_path / "cut")


def anonymous_bytes() -> int:
    """Memory of this process that no file stands for."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.parametrize("prefetch", [False, True])
def test_an_epoch_over_a_file_takes_little_memory(tmp_path: Path, prefetch: bool) -> None:
    rows, width = 200_000, 256
    path = tmp_path / "x.npy"
    header = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    header[123_456] = 1.0  # all else is a hole in the file
    del header
    size = path.stat().st_size
    assert size > 200e6
    data = Dataset.from_npy(path).shuffle(10_000, seed=0).batch(256)
    data = data.prefetch(2) if prefetch else data
    before = anonymous_bytes()
    tracemalloc.start()
    try:
        total = sum(float(batch.sum()) for batch in data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == width
    assert peak < size / 50
    assert anonymous_bytes() - before < size / 10


# ---- refused


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"Make a Dataset with `Dataset\.from_tensor_slices`"):
        Dataset()
    with pytest.raises(TypeError, match=r"`tensors\[1\]` must be an array of real numbers.*list"):
        Dataset.from_tensor_slices(([1], ["a"]))
    with pytest.raises(ValueError, match=r"`tensors\[0\]` must have rows\. Received: a single"):
        Dataset.from_tensor_slices(3.0)
    with pytest.raises(ValueError, match=r"`tensors\[1\]` must have as many rows.*2\. Received: 3"):
        Dataset.from_tensor_slices(([1, 2], [1, 2, 3]))
    with pytest.raises(ValueError, match="must hold an array"):
        Dataset.from_tensor_slices(())
    with pytest.raises(TypeError, match="`paths` must be one path or more"):
        Dataset.from_npy()
    with pytest.raises(TypeError, match="`make` must be a function without arguments"):
        Dataset.from_generator(iter([1]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`function` must be callable\. Received: function=3"):
        numbers().map(3)  # type: ignore[arg-type]
    for call, name, error in (
        (lambda d: d.batch(0), "`batch_size` must be at least 1", ValueError),
        (lambda d: d.batch(2.0), "`batch_size` must be an integer", TypeError),
        (lambda d: d.shuffle(0), "`buffer_size` must be at least 1", ValueError),
        (lambda d: d.shuffle(seed=-1), "`seed` must be at least 0", ValueError),
        (lambda d: d.prefetch(0), "`buffer_size` must be at least 1", ValueError),
        (lambda d: d.repeat(-2), "`count` must be at least 0", ValueError),
        (lambda d: d.take(-2), "`count` must be at least 0", ValueError),
        (lambda d: d.skip(1.5), "`count` must be an integer", TypeError),
        (lambda d: d.repeat().shuffle(), "`buffer_size` must be given where data nev", ValueError),
    ):
        with pytest.raises(error, match=name):
            call(numbers())


def test_elements_that_do_not_stack() -> None:
    shapes = iter([(1,), (2,)])
    data = Dataset.from_generator(lambda: (np.ones(shape) for shape in shapes))
    with pytest.raises(ValueError, match="elements of a batch must have the same parts and shapes"):
        list(data.batch(2))


def test_options_of_py_datasets() -> None:
    with pytest.raises(ValueError, match="`workers` must be at least 0"):
        PyDataset(workers=-1)
    with pytest.raises(NotImplementedError, match="__getitem__"):
        PyDataset()[0]
    with pytest.raises(NotImplementedError, match="__len__"):
        len(PyDataset())
    assert utils.Sequence is utils.PyDataset is PyDataset


def test_a_file_larger_than_the_memory(tmp_path: Path) -> None:
    """Its rows are read where used: most of the file is a hole, which no machine could load."""
    rows = 3 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (2 * 1024 * 4)
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 1024)}
        np.lib.format.write_array_header_2_0(file, header)
        start = file.tell()
        for row in (0, rows // 2, rows - 1):
            file.seek(start + row * 4096)
            np.full(1024, row + 1, np.float32).tofile(file)
            file.flush()
    if path.stat().st_blocks * 512 > 2**24:
        pytest.skip("this file system has no files with holes")
    data = Dataset.from_npy(path)
    assert len(data) == rows
    assert [row[0] for row in data.take(3)] == [1, 0, 0]
    assert [row[0] for row in data.skip(rows - 2)] == [0, np.float32(rows)]
    model = Sequential([Input((1024,)), Dense(2)])
    model.compile("sgd", "mse")
    pairs = data.map(lambda x: (x, x[:2])).batch(16).prefetch(2)
    tracemalloc.start()
    try:
        model.fit(pairs, steps_per_epoch=5, epochs=2, verbose=0)
        assert model.predict(data.batch(8), steps=3, verbose=0).shape == (24, 2)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
