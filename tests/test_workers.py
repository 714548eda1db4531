"""Batches that threads or processes compute ahead."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

from fusednn.data import PyDataset
from fusednn.layers import Dense, Input
from fusednn.models import Sequential
from fusednn.utils import set_random_seed

X = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
WAYS = [(3, False), (1, True), (2, True)]


class Numbered(PyDataset):
    """Ten batches; what computes them is in the last columns of x: its process, and a draw."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.epochs = 0
        self.threads: set[int] = set()

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        self.threads.add(threading.get_ident())
        x = np.full((6, 4), index, np.float32)
        x[:, 1] = os.getpid()
        x[:, 2] = np.random.random()  # noqa: NPY002 (as users' code draws)
        x[:, 3] = self.epochs
        return x, X[6 * index : 6 * index + 6, :1]

    def on_epoch_end(self) -> None:
        self.epochs += 1


class Failing(Numbered):
    def __getitem__(self, index: int) -> Any:
        if index == 4:
            raise ArithmeticError("of batch 4")
        return super().__getitem__(index)


class Seen(Sequential):
    """A model that keeps its batches."""

    batches: list[Any]

    def _train_step(self, x: Any, y: Any, weights: Any = None) -> float:
        self.batches.append((x, y))
        return super()._train_step(x, y, weights)


def seen(data: PyDataset, *, epochs: int = 1, **options: Any) -> list[Any]:
    set_random_seed(0)
    model = Seen([Input((4,)), Dense(1, kernel_initializer="zeros")])
    model.batches = []
    model.compile("sgd", "mae")
    model.fit(data, epochs=epochs, verbose=0, **options)
    return model.batches


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("workers", "processes"), WAYS)
def test_batches_in_their_order(workers: int, processes: bool, shuffle: bool) -> None:
    expected = seen(Numbered(), epochs=2, shuffle=shuffle)
    data = Numbered(workers=workers, use_multiprocessing=processes, max_queue_size=2)
    found = seen(data, epochs=2, shuffle=shuffle)
    order = [x[0, 0] for x, _ in found]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    if not shuffle or not processes:  # processes take a number from the generator
        assert order == [x[0, 0] for x, _ in expected]
    for x, y in found:
        np.testing.assert_array_equal(y, X[6 * int(x[0, 0]) :][:6, :1])
    assert [x[0, 3] for x, _ in found] == [0] * 10 + [1] * 10  # each epoch as the object is then
    own_process = {x[0, 1] == np.float32(os.getpid()) for x, _ in found}
    assert own_process == {not processes}
    if not processes:
        assert threading.get_ident() not in data.threads
    assert not [t for t in threading.enumerate() if t.name.startswith("fusednn worker")]


def test_random_numbers_of_processes_follow_from_the_seed() -> None:
    one, two = (
        [x[0, 2] for x, _ in seen(Numbered(workers=n, use_multiprocessing=True), epochs=2)]
        for n in (1, 3)
    )
    assert one == two
    assert len(set(one)) == 20


@pytest.mark.parametrize(("workers", "processes"), WAYS)
def test_an_error_comes_after_the_batches_before_it(workers: int, processes: bool) -> None:
    data = Failing(workers=workers, use_multiprocessing=processes)
    before = threading.active_count()
    with pytest.raises(ArithmeticError, match="of batch 4"):
        seen(data, shuffle=False)
    assert threading.active_count() == before


def test_no_more_batches_are_computed_than_may_wait() -> None:
    class Counted(Numbered):
        asked = 0

        @property
        def num_batches(self) -> None:
            return None  # without end

        def __getitem__(self, index: int) -> Any:
            self.asked = max(self.asked, index + 1)
            return super().__getitem__(index)

    data = Counted(workers=2, max_queue_size=3)
    assert len(seen(data, steps_per_epoch=4)) == 4
    assert 4 <= data.asked < 4 + 3


def test_a_subclass_that_does_not_call_the_base() -> None:
    class Plain(Numbered):
        def __init__(self) -> None:
            self.epochs, self.threads = 0, set()

    assert (Plain().workers, Plain().use_multiprocessing, Plain().max_queue_size) == (1, False, 10)
    assert len(seen(Plain())) == 10
    assert Plain().num_batches == 10
