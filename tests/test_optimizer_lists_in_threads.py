"""Remembered lists of optimizer steps in several threads at once, and after a fork."""

from __future__ import annotations

import gc
import os
import threading
import warnings

import numpy as np
import pytest

import fusednn
from fusednn import ops
from optimizer_lists import Lists


@pytest.fixture
def lists():
    made = Lists()
    for _ in range(3):
        made.step()
    return made


@pytest.mark.parametrize("size", [4, 20000])
def test_threads_with_lists_of_their_own(size):
    expected = Lists([(size,)] * 3)
    for _ in range(40):
        expected.steps += 1
        ops.adam_step(*expected.lists, step=expected.steps, lr=0.1)
    results = [Lists([(size,)] * 3) for _ in range(12)]
    failures = []

    def train(lists):
        try:
            for _ in range(40):
                lists.steps += 1
                ops.adam_step(*lists.lists, step=lists.steps, lr=0.1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=train, args=(lists,)) for lists in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for lists in results:
        for ours, theirs in zip(lists.lists, expected.lists, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)


def test_lists_emptied_while_a_step_runs_elsewhere():
    """The arrays of a running step live on, and what takes their place is noticed."""
    lists = Lists([(200_000,)] * 4)
    ops.adam_step(*lists.lists, step=1, lr=0.1)
    stop = threading.Event()
    errors = []

    def step():
        n = 1
        while not stop.is_set():
            n += 1
            try:
                ops.adam_step(*lists.lists, step=n, lr=0.1)
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    for i in range(100):
        for arrays in lists.lists:
            arrays[i % 4] = np.ones(200_000, np.float32)
        gc.collect(0)
    stop.set()
    thread.join()
    assert not errors
    for arrays in lists.lists:
        assert all(np.isfinite(array).all() for array in arrays)


def test_a_plan_in_use_is_not_forgotten():
    """While a long step runs, other threads' lists take the places of all other plans."""
    large, expected = Lists([(1_000_000,)]), Lists([(1_000_000,)])
    small = [Lists([(2,)], seed=seed) for seed in range(50)]
    for step in range(1, 21):
        ops.adam_step(*expected.lists, step=step, lr=0.1)
    ops.adam_step(*large.lists, step=1, lr=0.1)

    def train():
        for step in range(2, 21):
            ops.adam_step(*large.lists, step=step, lr=0.1)

    thread = threading.Thread(target=train)
    thread.start()
    while thread.is_alive():
        for lists in small:
            ops.adam_step(*lists.lists, step=1, lr=0.0)
    thread.join()
    for ours, theirs in zip(large.lists, expected.lists, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork(lists):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            for _ in range(5):
                lists.step()
            lists.m[0] = lists.m[0].astype(np.float64)
            lists.fails(TypeError, "float32, bfloat16 or float16")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    lists.step()


def test_threads_and_remembered_lists_give_the_same_bits():
    before = fusednn.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            fusednn.set_num_threads(threads)
            lists = Lists([(300, 300), (7,), (1000,), (200, 200)])
            for _ in range(3):
                lists.step()
            results.append(lists.params)
    finally:
        fusednn.set_num_threads(before)
    for params in results[1:]:
        for a, b in zip(params, results[0], strict=True):
            np.testing.assert_array_equal(a, b)
