"""How an optimizer's step is cut: one flat range over all arrays, one pass, small lists uncut.

Told by threads that are lent: they run one task after the other and look at what it wrote.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fusednn import ops
from lent_context import PARALLEL_FOR, Settings, library_with_contexts, use_context

#: Elements of a block, and of a task.
BLOCK, TASK = 1024, 32 * 1024
LISTS = {
    "one large array": [500_000],
    "two, one of them of no whole block": [300_001, 200_003],
    "an array of many tasks between small ones": [7, 400_000, 1, 33, 100_000],
    "many arrays in one task": [1_000] * 500,
    "arrays of a task and some": [TASK + 5] * 12,
    "empty ones among them": [0, 250_000, 0, 0, 250_001, 0],
}


class Watched:
    """Lent threads: what each call gave them to do, and which elements of `arrays` that changed."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.regions: list[list[np.ndarray]] = []
        self._arrays = arrays
        # Kept here: the library calls it.
        self._function = PARALLEL_FOR(self._run)
        self.settings = Settings(ctypes.sizeof(Settings), self._function, None, 4)

    def _run(self, context: int | None, count: int, task: Callable[..., None], data: int) -> None:
        region = []
        for index in range(count):
            before = np.concatenate(self._arrays)
            task(data, index)
            region.append(np.flatnonzero(np.concatenate(self._arrays) != before))
        self.regions.append(region)


@pytest.fixture
def watch() -> Iterator[Callable[[list[np.ndarray]], Watched]]:
    library = library_with_contexts()
    made = []

    def lend(arrays: list[np.ndarray]) -> Watched:
        watched = Watched(arrays)
        made.append(use_context(library, watched.settings))
        return watched

    yield lend
    library.fnn_context_use(None)
    for context in made:
        library.fnn_context_destroy(context)


def zeros(sizes: list[int], dtype: Any = np.float32) -> list[np.ndarray]:
    return [np.zeros(n, dtype) for n in sizes]


def step(params: list[np.ndarray], **options: Any) -> bool:
    """A step of Adam with gradients that change every element."""
    grads = [np.ones_like(p) for p in params]
    states = [zeros([p.size for p in params]) for _ in range(2)]
    return ops.adam_step(params, grads, *states, step=1, lr=0.5, **options)


@pytest.mark.parametrize("sizes", LISTS.values(), ids=list(LISTS))
def test_a_list_is_one_flat_range(
    watch: Callable[[list[np.ndarray]], Watched], sizes: list[int]
) -> None:
    """Each task has the next elements, whichever arrays they are of, and none more than a share."""
    params = zeros(sizes)
    watched = watch(params)
    assert step(params)
    (tasks,) = watched.regions
    assert len(tasks) == -(-sum(sizes) // TASK)
    written = np.concatenate(tasks)
    np.testing.assert_array_equal(written, np.arange(sum(sizes)))  # in order, each of them once
    # Cuts inside an array are at blocks of it: the largest share is a task and what a cut moves.
    assert max(map(len, tasks)) < TASK + BLOCK
    assert min(map(len, tasks[:-1])) > TASK - BLOCK


@pytest.mark.parametrize(
    "sizes",
    [[1024], [32] * 500, [32] * 100, [100, 10_000] * 4],
    ids=["1k", "500x32", "100x32", "8"],
)
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"skip_nonfinite": True}], ids=str)
def test_small_lists_stay_on_their_thread(
    watch: Callable[[list[np.ndarray]], Watched], sizes: list[int], options: dict[str, Any]
) -> None:
    params = zeros(sizes)
    watched = watch(params)
    assert step(params, **options)
    assert watched.regions == []
    assert all((p != 0).all() for p in params)


SIZES = [300_000, 300_000]
#: Options of one pass: they are all applied while the elements are there anyway.
FUSED: dict[str, Callable[[], dict[str, Any]]] = {
    "none": dict,
    "grad_scale": lambda: {"grad_scale": 8.0},
    "clip_value": lambda: {"clip_value": 0.5},
    "decoupled decay": lambda: {"weight_decay": 0.01, "decoupled_weight_decay": True},
    "L2 decay": lambda: {"weight_decay": 0.01, "decoupled_weight_decay": False},
    "maximize": lambda: {"maximize": True},
    "average": lambda: {"ema": zeros(SIZES), "ema_momentum": 0.9},
    "copy": lambda: {"low_precision_copies": zeros(SIZES, ml_dtypes.bfloat16)},
    "all of them": lambda: {
        "grad_scale": 8.0,
        "clip_value": 0.5,
        "weight_decay": 0.01,
        "ema": zeros(SIZES),
        "ema_momentum": 0.9,
        "low_precision_copies": zeros(SIZES, ml_dtypes.bfloat16),
    },
}
#: Those that need all gradients before any update.
LOOK_FIRST: dict[str, dict[str, Any]] = {
    "max_norm": {"max_norm": 1.0},
    "max_norm_each": {"max_norm_each": 1.0},
    "skip_nonfinite": {"skip_nonfinite": True},
    "norm and search": {"max_norm": 1.0, "skip_nonfinite": True},
}


@pytest.mark.parametrize("options", FUSED.values(), ids=list(FUSED))
def test_options_take_no_pass_of_their_own(
    watch: Callable[[list[np.ndarray]], Watched], options: Callable[[], dict[str, Any]]
) -> None:
    params, given = zeros(SIZES), options()
    beside = given.get("ema", []) + [
        a.view(np.uint16) for a in given.get("low_precision_copies", [])
    ]
    watched = watch([*params, *beside])
    assert step(params, **given)
    (tasks,) = watched.regions
    # Parameters, averages and copies are written by the same task.
    for task in tasks:
        own = task[task < sum(SIZES)]
        lists = 1 + ("ema" in given) + ("low_precision_copies" in given)
        np.testing.assert_array_equal(
            task, np.concatenate([own + sum(SIZES) * i for i in range(lists)])
        )


@pytest.mark.parametrize("options", LOOK_FIRST.values(), ids=list(LOOK_FIRST))
def test_what_needs_all_gradients_reads_them_once_more(
    watch: Callable[[list[np.ndarray]], Watched], options: dict[str, Any]
) -> None:
    params = zeros(SIZES)
    watched = watch(params)
    assert step(params, **options)
    look, update = watched.regions
    assert len(look) > 1
    assert sum(map(len, look)) == 0
    np.testing.assert_array_equal(np.concatenate(update), np.arange(sum(SIZES)))


def test_nothing_is_updated_where_a_gradient_is_not_finite(
    watch: Callable[[list[np.ndarray]], Watched],
) -> None:
    params = zeros(SIZES)
    watched = watch(params)
    grads = [np.ones_like(p) for p in params]
    grads[1][-1] = np.inf
    states = [zeros(SIZES) for _ in range(2)]
    assert not ops.adam_step(params, grads, *states, step=1, lr=0.5, skip_nonfinite=True)
    (look,) = watched.regions
    assert sum(map(len, look)) == 0
